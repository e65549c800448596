"""What the wires share whose answers are made of typed blocks: Anthropic Messages, Bedrock Converse and Cohere."""

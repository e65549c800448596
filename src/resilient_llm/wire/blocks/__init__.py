"""What the two wires whose turns are made of typed blocks share: Anthropic Messages and Bedrock Converse."""

"""Any SDK or local model becomes a provider: an id and a chat method are enough."""

from resilient_llm import ResilientClient
from resilient_llm.errors import FaultKind, ProviderError
from resilient_llm.model import ChatRequest, ChatResponse, Text


class Parrot:
    id = "parrot"

    def chat(self, request: ChatRequest, *, timeout: float) -> ChatResponse:
        if not request.messages[-1].text:
            raise ProviderError("nothing to repeat", kind=FaultKind.BAD_REQUEST)
        return ChatResponse((Text(request.messages[-1].text),))


with ResilientClient([Parrot()]) as client:
    print(client.chat("Polly wants a cracker").text)

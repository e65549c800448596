"""The same with Django, in one file.

    gunicorn --chdir examples/web --threads 4 django_chat:application
    curl http://127.0.0.1:8000/chat --json '{"text": "Why is the sky blue?"}'

Django mounts no applications within its URLs, so a view passes requests on to ``Endpoints.answer``.
"""

import json
import os

import django
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.urls import re_path
from django.views.decorators.csrf import csrf_exempt
from standin import urls

from resilient_llm import ResilientClient, ResilientError
from resilient_llm.operate.endpoints import Endpoints, http_status
from resilient_llm.providers import OpenAICompatible

settings.configure(
    ROOT_URLCONF=__name__, ALLOWED_HOSTS=["127.0.0.1"], MIDDLEWARE=[f"{__name__}.errors"], LOGGING_CONFIG=None
)
django.setup()

DEADLINE = float(os.environ.get("LLM_DEADLINE", "20"))
client = ResilientClient(
    [OpenAICompatible("example-model", id=f"server-{number}", base_url=url) for number, url in enumerate(urls(), 1)]
)
endpoints = Endpoints(client)


class errors:  # noqa: N801 - middleware is written like a function
    """Errors of calls as HTTP statuses, for every view."""

    def __init__(self, get_response):
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        if not isinstance(error, ResilientError):
            return None
        status, headers = http_status(error)
        body = {"error": type(error).__name__, "retryable": error.retryable}
        return JsonResponse(body, status=status, headers=headers)


@csrf_exempt
def chat(request: HttpRequest) -> HttpResponse:
    reply = client.chat(json.loads(request.body)["text"], deadline=DEADLINE)
    return JsonResponse({"text": reply.text, "provider": reply.provider})


@csrf_exempt
def stream(request: HttpRequest) -> StreamingHttpResponse:
    answer = client.stream(json.loads(request.body)["text"], deadline=DEADLINE).start()  # failures are raised here
    return StreamingHttpResponse(answer.text_deltas(), content_type="text/plain")


def health(request: HttpRequest, path: str) -> HttpResponse:
    found = endpoints.answer(path, method=request.method or "GET", query=request.GET.dict())
    return HttpResponse(found.body, status=found.status, headers=dict(found.headers))


urlpatterns = [re_path(r"^chat$", chat), re_path(r"^stream$", stream), re_path(r"^llm(?P<path>/.*)$", health)]
application = get_wsgi_application()

"""Settings from files, variables and arguments: each layer over the one before it, and every mistake at once."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

import pytest
from opentelemetry.trace import NoOpTracerProvider

import resilient_llm
from resilient_llm import AsyncResilientClient, ResilientClient
from resilient_llm.drive import engines
from resilient_llm.errors import ConfigurationError
from resilient_llm.operate import settings as public
from resilient_llm.operate.settings import sections
from resilient_llm.operate.settings.annotations import kind_of
from resilient_llm.operate.settings.problems import SettingsError
from resilient_llm.operate.settings.providers import kinds, options_of
from resilient_llm.operate.settings.reading import Settings, read
from resilient_llm.operate.settings.shape import ENGINES, schema
from resilient_llm.policy import Policies, Retry
from resilient_llm.providers import Function, OpenAI
from resilient_llm.providers.base import LINES
from resilient_llm.providers.credentials import ApiKey
from tests.drive.guarded import Certificates

KEY = "sk-very-secret-0123456789"
ROOT = Path(__file__).parents[3]
Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes a file, and shows it by its name alone."""
    monkeypatch.chdir(tmp_path)
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "MISTRAL_API_KEY"):
        monkeypatch.setenv(name, KEY)
    monkeypatch.delenv("APP_ENV", raising=False)

    def written(text: str, name: str = "resilient.toml") -> Path:
        Path(name).write_text(text, encoding="utf-8")
        return Path(name)

    return written


def problems(source: Any, **options: Any) -> list[str]:
    with pytest.raises(SettingsError) as refused:
        read(source, **options)
    assert KEY not in str(refused.value)
    assert str(refused.value).splitlines() == list(map(str, refused.value.problems))
    return str(refused.value).splitlines()


def tiers(found: Settings, route: str = "default") -> list[list[str]]:
    return [[provider.id for provider in tier] for tier in found.routes[route]]


# --- what may be written ---


def test_the_shortest_file(write: Write) -> None:
    found = read(write('providers = ["openai/gpt-5.2", "anthropic/claude-sonnet-5"]'))
    assert tiers(found) == [["openai/gpt-5.2"], ["anthropic/claude-sonnet-5"]]
    assert not found.warnings


def test_a_nested_list_is_a_tier_and_a_table_has_options(write: Write) -> None:
    found = read(
        write("""
        providers = [
            ["openai/gpt-5.2", {kind = "openai", model = "gpt-5.2", id = "eu", weight = 2, tags = ["eu"]}],
            {kind = "Mistral", model = "mistral-large-latest", max_concurrency = 4, context_window = "none"},
        ]
        """)
    )
    assert tiers(found) == [["openai/gpt-5.2", "eu"], ["mistral/mistral-large-latest"]]
    eu: Any = found.routes["default"][0][1]
    assert (eu.weight, eu.tags) == (2.0, {"eu"})
    assert found.routes["default"][1][0].max_concurrency == 4  # type: ignore[union-attr]


def test_named_providers_tiers_and_routes(write: Write) -> None:
    found = read(
        write("""
        [providers]
        small = "openai/gpt-5-mini"
        [providers.main]
        kind = "openai"
        model = "gpt-5.2"
        tier = 0
        [providers.eu]
        kind = "azure-openai"
        model = "gpt"
        base_url = "https://eu.example"
        api_key = "env:AZURE"
        api_version = "2026-01-01"
        tier = 0
        [routes]
        smart = [["main", "eu"], "small"]
        fast = ["small", "mistral/mistral-small-latest"]
        """)
    )
    assert tiers(found, "smart") == [["main", "eu"], ["small"]]
    assert tiers(found, "fast") == [["small"], ["mistral/mistral-small-latest"]]
    assert found.routes["smart"][1][0] is found.routes["fast"][0][0], "one provider, one state"
    without_routes = read({**found.values, "routes": {"all": ["eu", "main", "small"]}})
    assert tiers(without_routes, "all") == [["eu"], ["main"], ["small"]]


def test_without_routes_the_numbers_of_tiers_order_the_providers(write: Write) -> None:
    text = '[providers.{}]\nkind = "openai"\nmodel = "m"\ntier = {}\n'
    found = read(write(text.format("a", 2) + text.format("b", 1) + text.format("c", 2)))
    assert tiers(found) == [["b"], ["a", "c"]]


@pytest.mark.parametrize("name", sorted(kinds()))
def test_every_provider_can_be_named_in_three_ways(name: str) -> None:
    for spelling in (name, name.lower(), name.lower().replace("openai", "open-ai")):
        with pytest.raises(SettingsError) as refused:
            read({"providers": [{"kind": spelling}]})
        assert [one.message for one in refused.value.problems] == ["needs model, a text"], spelling
    assert {*LINES, "kind", "model", "tier"} - set(options_of(kinds()[name]).fields) == set()


def test_yaml_is_the_same(write: Write) -> None:
    pytest.importorskip("yaml")
    path = write("deadline: 7\nproviders:\n  - openai/gpt-5.2\nretry:\n  max_attempts: 0\n", "resilient.yaml")
    assert problems(path) == [
        "resilient.yaml:5: retry.max_attempts: Retry.max_attempts must be a whole number of at least 1, not 0"
    ]
    found = read(write("deadline: null\nproviders: [openai/gpt-5.2]\n", "resilient.yaml"))
    assert found.options == {"deadline": None}


# --- layers ---


def test_each_layer_goes_before_the_one_before_it(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write("""
        deadline = 1
        name = "file"
        on_unsupported = "degrade"
        [providers.main]
        kind = "openai"
        model = "gpt-5.2"
        weight = 2
        [retry]
        max_attempts = 2
        max_wait = 5
        budget = 4
        """)
    write('deadline = 2\nname = "production"\n[providers.main]\nweight = 3\n', "resilient.production.toml")
    monkeypatch.setenv("APP_ENV", "production")
    monkeypatch.setenv("RESILIENT_LLM__DEADLINE", "3.5")
    monkeypatch.setenv("RESILIENT_LLM__RETRY__MAX_ATTEMPTS", "5")
    monkeypatch.setenv("RESILIENT_LLM__PROVIDERS__MAIN__TAGS", "eu, gpu")
    found = read(path, arguments={"deadline": 4, "retry": {"max_wait": 6}})
    assert found.options == {
        "deadline": 4,
        "name": "production",
        "on_unsupported": "degrade",
        "retry": Retry(max_attempts=5, max_wait=6, budget=4),
    }
    main: Any = found.routes["default"][0][0]
    assert (main.weight, main.tags) == (3.0, {"eu", "gpu"})
    assert {".".join(map(str, where)): str(origin) for where, origin in found.origins.items()} == {
        "on_unsupported": "resilient.toml:4",
        "providers": "resilient.toml:5",
        "providers.main": "resilient.toml:5",
        "providers.main.kind": "resilient.toml:6",
        "providers.main.model": "resilient.toml:7",
        "retry": "resilient.toml:9",
        "retry.budget": "resilient.toml:12",
        "name": "resilient.production.toml:2",
        "providers.main.weight": "resilient.production.toml:4",
        "providers.main.tags": "variable RESILIENT_LLM__PROVIDERS__MAIN__TAGS",
        "retry.max_attempts": "variable RESILIENT_LLM__RETRY__MAX_ATTEMPTS",
        "deadline": "argument",
        "retry.max_wait": "argument",
    }


def test_the_environment_alone_is_enough(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESILIENT_LLM__PROVIDERS", "openai/gpt-5.2, mistral/mistral-large-latest")
    monkeypatch.setenv("RESILIENT_LLM__NAME", "7")
    monkeypatch.setenv("RESILIENT_LLM__HEDGE__ENABLED", "False")
    monkeypatch.setenv("RESILIENT_LLM__BREAKER", "{consecutive = 3}")
    monkeypatch.setenv("RESILIENT_LLM__DEADLINE", "none")
    found = read()
    assert tiers(found) == [["openai/gpt-5.2"], ["mistral/mistral-large-latest"]]
    assert found.options["name"] == "7"
    assert found.options["deadline"] is None
    assert (found.options["hedge"].enabled, found.options["breaker"].consecutive) == (False, 3)  # type: ignore[attr-defined]


def test_where_there_are_no_settings_it_is_said_how_to_give_some(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsError, match="needs providers; name a settings file, or set RESILIENT_LLM__PROVIDERS="):
        public.load()
    with pytest.raises(ConfigurationError, match="settings are a file, a mapping or None, not 7"):
        public.load(7)  # type: ignore[call-overload]


def test_a_route_and_a_named_provider_can_come_from_variables(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESILIENT_LLM__PROVIDERS", '[["openai/a", "openai/b"], "openai/c"]')
    monkeypatch.setenv("RESILIENT_LLM__ROUTES__FAST", "openai/c,openai/a")
    found = read()
    assert tiers(found, "fast") == [["openai/c"], ["openai/a"]]
    assert [str(one.key) for one in found.warnings] == ["providers[0][1]"]


def test_an_id_is_found_in_a_variable_whatever_its_signs(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESILIENT_LLM__PROVIDERS__MY_MAIN_1__WEIGHT", "4")
    found = read({"providers": {"My-main/1": {"kind": "openai", "model": "m"}}})
    assert found.routes["default"][0][0].weight == 4.0  # type: ignore[union-attr]


def test_an_environment_that_is_named_must_be_there(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write('providers = ["openai/gpt-5.2"]')
    assert problems(path, environment="staging") == [
        "resilient.staging.toml: there is no such file for the environment 'staging'"
    ]
    monkeypatch.setenv("APP_ENV", "staging")
    assert [str(one) for one in read(path).files] == ["resilient.toml", "resilient.staging.toml"]


# --- mistakes ---


def test_every_mistake_is_told_at_once_with_its_line(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(
        f"""\
deadlin = 3
timeout = 3
name = 5
on_unsupported = "skipp"

[providers.main]
kind = "openai"
model = "gpt-5.2"
api_key = "{KEY}"
weight = -1
base_url = "foo"
max_retries = 3

[providers.b]
kind = "azure-openai"
model = "d"
base_url = "https://x.example"
api_key = "env:AZURE"
headers = {{ authorization = "Bearer {KEY}" }}

[providers.c]
kind = "antropic"
model = "x"

[providers.d]
kind = "openai"
id = "e"

[routes]
smart = ["main", ["c", "b", "zz"]]
fast = "b"

[retry]
max_attempts = 0
backoff_base = 10
backoff_cap = 1
budgte = 1

[breaker]
ratio = 3
consecutive = "five"
"""
    )
    monkeypatch.setenv("RESILIENT_LLM__RETRY__BUDGET", "much")
    secret = "write a reference to it: env:NAME, file:/run/secrets/NAME"
    expected = [
        ("resilient.toml:1: deadlin: there is no such setting; did you mean deadline=?"),
        ("resilient.toml:2: timeout: there is no such setting; did you mean deadline=, seconds for a whole call?"),
        ("resilient.toml:3: name: must be a text, not 5"),
        ("resilient.toml:4: on_unsupported: must be 'skip' or 'degrade' or 'error' or a table"),
        (f"resilient.toml:9: providers.main.api_key: holds a secret itself, or no reference to one; {secret}"),
        ("resilient.toml:10: providers.main.weight: weight must be a number above 0, not -1"),
        ("resilient.toml:11: providers.main.base_url: base_url must start with http:// or https://"),
        ("resilient.toml:12: providers.main.max_retries: there is no such setting; did you mean retry= of the client?"),
        (f"resilient.toml:19: providers.b.headers.authorization: holds a secret itself; {secret}"[:80]),
        ("resilient.toml:22: providers.c.kind: there is no provider 'antropic'; did you mean 'anthropic'?"),
        ("resilient.toml:25: providers.d: needs model, a text"),
        ("resilient.toml:27: providers.d.id: the id of a named provider is its name, 'd'"),
        ("resilient.toml:30: routes.smart[1]: there is no provider 'zz'"),
        ("resilient.toml:31: routes.fast: must be a list of providers"),
        ("resilient.toml:34: retry.max_attempts: Retry.max_attempts must be a whole number of at least 1, not 0"),
        ("resilient.toml:35: retry.backoff_base: Retry.backoff_base (10) must not exceed backoff_cap (1)"),
        ("resilient.toml:37: retry.budgte: there is no such setting; did you mean 'budget'?"),
        ("resilient.toml:40: breaker.ratio: Breaker.ratio must be a finite number of at least 0.01"),
        ("resilient.toml:41: breaker.consecutive: must be a whole number, not 'five'"),
        ("variable RESILIENT_LLM__RETRY__BUDGET: retry.budget: must be a number, not 'much'"),
    ]
    found = problems(path)
    assert [line[: len(start)] for line, start in zip(found, expected, strict=False)] == expected
    assert len(found) == len(expected)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "resilient.toml: needs providers; write providers"),
        ("providers = []", "resilient.toml:1: providers: is empty"),
        ("providers = 3", "resilient.toml:1: providers: must be a list"),
        ('providers = ["gpt-5.2"]', "resilient.toml:1: providers[0]: must be VENDOR/MODEL"),
        (
            'providers = ["opnai/gpt"]',
            "resilient.toml:1: providers[0].kind: there is no provider 'opnai'; did you",
        ),
        ("providers = [3]", "resilient.toml:1: providers[0]: must be a table, or a text"),
        ('providers = ["openai/a", "openai/a"]', "resilient.toml:1: providers[1]: the id 'openai/a' is taken"),
        ('providers = ["openai/a"]\nroutes = 3', "resilient.toml:2: routes: must be a table"),
        ('providers = ["openai/a"]\nretry = 3', "resilient.toml:2: retry: must be a table, not 3"),
        ('providers = ["openai/a"]\n[[retry]]', "resilient.toml:2: retry: must be a table, not a list"),
        ('providers = ["openaicompatible/a"]', "resilient.toml:1: providers[0]: OpenAICompatible needs base_url="),
        ('name = "a"\nname = "b"', "resilient.toml:2: it is not TOML: Cannot overwrite a value"),
        ("x = [1,\n", "resilient.toml:2: it is not TOML"),
        ('providers = ["openai/a"]\ndeadline = 0', "resilient.toml:2: deadline: must be a number of seconds above 0"),
        ('providers = ["openai/a"]\nengine = "aiohtp"', "resilient.toml:2: engine: must be 'httpx' or 'httpx2' or"),
        ('providers = ["openai/a"]\ntracer_provider = 3', "resilient.toml:2: tracer_provider: there is no such"),
    ],
)
def test_a_mistake_has_its_place(write: Write, text: str, said: str) -> None:
    assert problems(write(text))[0].startswith(said)


def test_a_mistaken_variable_is_told_with_its_name(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write('providers = ["openai/gpt-5.2"]')
    monkeypatch.setenv("RESILIENT_LLM_DEADLINE", "5")
    [told] = read(path).warnings
    assert str(told) == "variable RESILIENT_LLM_DEADLINE: it is no setting; did you mean RESILIENT_LLM__DEADLINE?"
    monkeypatch.setenv("RESILIENT_LLM__RETRI__MAX_ATTEMPTS", "3")
    monkeypatch.setenv("RESILIENT_LLM__DEADLINE", "-1")
    found = problems(path)
    assert [line.partition(": ")[0] for line in found] == [
        "variable RESILIENT_LLM_DEADLINE",
        "variable RESILIENT_LLM__DEADLINE",
        "variable RESILIENT_LLM__RETRI__MAX_ATTEMPTS",
    ]


def test_the_engines_are_those_of_the_client() -> None:
    assert ENGINES == engines._NAMES


def test_a_missing_key_is_told_and_hides_nothing(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    path = write('[providers.main]\nkind = "openai"\nmodel = "m"\nweight = 0\n')
    assert problems(path) == [
        "resilient.toml:1: providers.main: OpenAI needs an API key: set OPENAI_API_KEY, or pass api_key=",
        "resilient.toml:4: providers.main.weight: weight must be a number above 0, not 0",
    ]


@pytest.mark.parametrize("name", ["resilient.json", "nowhere.toml", "folder.toml"])
def test_what_is_no_settings_file(write: Write, name: str) -> None:
    Path("folder.toml").mkdir()
    if name.endswith("json"):
        write("{}", name)
    assert problems(Path(name))[0].startswith(f"{name}: ")


def test_bytes_that_are_no_text(write: Write) -> None:
    Path("resilient.toml").write_bytes(b"name = '\xff'")
    assert problems("resilient.toml") == ["resilient.toml: it is not UTF-8"]


def test_headers_may_name_secrets(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY", KEY)
    path = write(
        '[[providers]]\nkind = "openai"\nmodel = "m"\nheaders = {x-gateway-token = "env:GATEWAY", x-title = "us"}\n'
    )
    found = read(path)
    provider: Any = found.routes["default"][0][0]
    assert dict(provider.headers) == {"x-gateway-token": KEY, "x-title": "us"}
    assert KEY not in f"{found!r} {provider!r} {found.values!r}"


NETWORK = """[[providers]]
kind = "openai"
model = "m"
proxy = "{proxy}"
verify = false
cert = ["{folder}/cert.pem", "{folder}/locked.pem", "{password}"]
"""


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a certificate and its key, which a password opens."""
    folder = tmp_path_factory.mktemp("locked")
    Certificates(folder).locked(KEY)
    return folder


def test_a_proxy_and_certificates_may_name_secrets(write: Write, locked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROXY", f"http://me:{KEY}@proxy:3128")
    monkeypatch.setenv("PASSWORD", KEY)
    found = read(write(NETWORK.format(proxy="env:PROXY", folder=locked, password="env:PASSWORD")))
    provider: Any = found.routes["default"][0][0]
    assert str(provider.network.proxy) == f"http://me:{KEY}@proxy:3128"
    assert provider.network.verify is False
    assert provider.network.cert == (f"{locked}/cert.pem", f"{locked}/locked.pem", KEY)
    assert KEY not in f"{found!r} {provider!r} {provider.network!r} {found.values!r}"
    monkeypatch.delenv("PROXY")
    monkeypatch.delenv("PASSWORD")
    unseen = read("resilient.toml", needs_keys=False).routes["default"][0][0]
    assert unseen.network.proxy is None  # type: ignore[union-attr]
    assert problems("resilient.toml") == [
        "resilient.toml:4: providers[0].proxy: env:PROXY: the variable PROXY is not set",
        "resilient.toml:6: providers[0].cert[2]: env:PASSWORD: the variable PASSWORD is not set",
    ]


def test_passwords_of_a_network_are_not_written_down(write: Write, locked: Path) -> None:
    write(NETWORK.format(proxy=f"http://me:{KEY}@proxy:3128", folder=locked, password=KEY))
    told = "holds a secret itself; write a reference to it: env:NAME or file:/run/secrets/NAME"
    assert problems("resilient.toml") == [
        f"resilient.toml:4: providers[0].proxy: {told}",
        f"resilient.toml:6: providers[0].cert[2]: {told}",
    ]


def test_what_is_wrong_with_a_network_is_told_in_its_place(write: Write) -> None:
    write(
        '[providers.a]\nkind = "openai"\nmodel = "m"\nproxy = "ftp://proxy:21"\nverify = "nowhere.pem"\n'
        'cert = "neither.pem"\n'
    )
    assert problems("resilient.toml") == [
        "resilient.toml:4: providers.a.proxy: OpenAI 'a': proxy must begin with one of http://, socks5://, socks5h:// "
        "and name a host, not be ftp://proxy:21",
        "resilient.toml:5: providers.a.verify: OpenAI 'a': verify='nowhere.pem': No such file or directory",
        "resilient.toml:6: providers.a.cert: OpenAI 'a': cert='neither.pem': there is no such file",
    ]


def test_a_network_in_variables(locked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificates = Certificates(locked)
    for name, value in {
        "KIND": "openai",
        "MODEL": "m",
        "API_KEY": "plain:k",
        "PROXY": "false",
        "VERIFY": certificates.ca,
        "CERT": certificates.client,
    }.items():
        monkeypatch.setenv(f"RESILIENT_LLM__PROVIDERS__MAIN__{name}", value)
    provider: Any = read(None).routes["default"][0][0]
    network = provider.network
    assert (network.proxy, network.verify, network.cert) == (False, certificates.ca, (certificates.client,))


# --- the code is the only source ---


def test_every_policy_and_every_setting_of_a_client_can_be_in_a_file() -> None:
    found = schema()["properties"]
    assert isinstance(found, Mapping)
    for group in fields(Policies):
        policy = getattr(Policies(), group.name)
        assert set(found[group.name]["properties"]) == {one.name for one in fields(policy)}
    assert {"deadline", "name", "on_unsupported", "engine", "providers", "routes", "secrets"} <= set(found)


def test_the_schema_in_the_docs_is_that_of_the_code() -> None:
    committed = json.loads((ROOT / "docs" / "resilient.schema.json").read_text(encoding="utf-8"))
    assert committed == json.loads(json.dumps(schema())), "run: python docs/generate.py"


def test_the_schema_agrees_with_the_reader(write: Write) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    import tomllib

    checker = jsonschema.Draft202012Validator(schema())
    jsonschema.Draft202012Validator.check_schema(schema())
    good = tomllib.loads((ROOT / "examples" / "resilient.toml").read_text(encoding="utf-8"))
    assert not list(checker.iter_errors(good))
    for bad in (
        {"deadlin": 3},
        {"retry": {"max_attempts": "x"}},
        {"providers": [{"kind": "openai"}]},
        {"providers": {"a": {"kind": "openai", "model": "m", "api_key": "sk-abc"}}},
        {"on_unsupported": "never"},
    ):
        assert list(checker.iter_errors(bad)), bad


def test_the_example_is_fit_for_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("APP_ENV", raising=False)
    found = read(ROOT / "examples" / "resilient.toml")
    assert not found.warnings
    assert len(found.routes) > 1


# --- sections ---


@dataclass(frozen=True, slots=True, kw_only=True)
class Sink:
    """Where to tell."""

    url: ApiKey
    level: Literal["info", "error"] = "error"
    every: float = 1.0

    def __post_init__(self) -> None:
        if not self.every > 0:
            raise ConfigurationError(f"every must be above 0, not {self.every!r}")


ATTACHED: list[Any] = []


def attach(client: Any, sinks: tuple[Sink, ...]) -> Callable[[], None]:
    ATTACHED.append((client, sinks))
    return lambda: ATTACHED.remove((client, sinks))


SECTION = sections.Section(tuple[Sink, ...], attach)


@pytest.fixture
def sinks(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    monkeypatch.setitem(sections.SECTIONS, "sinks", f"{__name__}:SECTION")
    ATTACHED.clear()
    return ATTACHED


def test_a_part_can_have_a_section_of_its_own(write: Write, sinks: list[Any]) -> None:
    path = write('providers = ["openai/m"]\n[[sinks]]\nurl = "env:HOOK"\n[[sinks]]\nurl = "file:x"\nevery = 2\n')
    with resilient_llm.load(path) as client:
        ((attached, (first, second)),) = sinks
        assert attached is client
        assert (first.level, second.every, repr(first.url)) == ("error", 2, "<Secret env:HOOK>")


def test_mistakes_in_a_section_have_their_place_too(write: Write, sinks: list[Any]) -> None:
    text = '[[sinks]]\nurl = "https://hook"\n[[sinks]]\nurl = "env:A"\nevery = 0\nlevl = "info"\n'
    found = problems(write(f'providers = ["openai/m"]\n{text}'))
    assert [line.partition(": ")[0] for line in found] == ["resilient.toml:3", "resilient.toml:6", "resilient.toml:7"]
    assert "every must be above 0" in found[1]


def test_what_a_file_can_hold_follows_from_the_annotation() -> None:
    assert kind_of(Callable[[], None]) is None
    assert kind_of(Mapping[str, Sink]) is not None
    with pytest.raises(TypeError):
        _ = sections.Section(Callable[[], None]).kind


# --- clients ---


def test_load_makes_either_client(write: Write) -> None:
    path = write('deadline = 5\nproviders = ["openai/gpt-5.2"]\n[retry]\nmax_attempts = 2\n')
    seen: list[object] = []
    with resilient_llm.load(path, listeners=[seen.append], retry={"max_wait": 3}) as client:
        assert type(client) is ResilientClient
        assert client.pool.policies.retry == Retry(max_attempts=2, max_wait=3)
        assert client.pool.allowance == 5
        assert len(client.pool.listeners) == 1
    assert type(public.load(path, client=AsyncResilientClient)) is AsyncResilientClient


def test_load_takes_what_only_code_can_give() -> None:
    tracers = NoOpTracerProvider()
    with public.load({"providers": [OpenAI("m", api_key="k")]}, tracer_provider=tracers, deadline=None) as client:
        assert client.pool.allowance == float("inf")


def test_load_takes_a_mapping_and_objects_of_code(write: Write) -> None:
    own = OpenAI("m", id="own", api_key="k")
    function = Function(lambda request: "yes", id="function")
    client = public.load({"providers": [own, "openai/gpt-5.2", function]}, retry=Retry(max_attempts=1))
    assert [one.id for one in client.pool.pool.targets()] == ["own", "openai/gpt-5.2", "function"]
    assert public.load({"deadline": 3}, providers=[function]).chat("?").text == "yes"
    assert client.pool.policies.retry.max_attempts == 1
    with pytest.raises(ConfigurationError, match="client must be"):
        public.load({"providers": [own]}, client=dict)  # type: ignore[type-var]


def test_what_is_wrong_elsewhere_is_told_although_a_provider_is_wrong_too() -> None:
    provider = {"kind": "openai", "model": 5, "weight": -1, "api_key": "plain:k"}
    settings = {
        "providers": {"main": provider},
        "objectives": {"slow": {"availability": 0.99}},
        "cost": {"budgets": [{"amount": 1, "provider": "nobody"}, {"amount": 1, "provider": "main"}]},
    }
    with pytest.raises(SettingsError) as refused:
        read(settings)
    assert {one.key: one.message for one in refused.value.problems} == {
        "providers.main.model": "must be a text, not 5",
        "providers.main.weight": "weight must be a number above 0, not -1",
        "objectives.slow": "there is no route 'slow'; there are default",
        "cost.budgets[0].provider": "there is no provider 'nobody'; there are main",
    }


def test_what_is_missing_in_a_file_is_told_with_its_name(tmp_path: Path) -> None:
    file = tmp_path / "empty.toml"
    file.write_text("")
    with pytest.raises(SettingsError, match=r"empty\.toml: needs providers"):
        read(file)

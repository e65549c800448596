"""The stores a secret can be in.  Each is a function of a :class:`Reference` that returns the secret, or raises.

They wait at most a few seconds for a network; what they need is an extra that is imported when it is used.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Final, Protocol, TypeAlias, cast

from resilient_llm.errors import ConfigurationError
from resilient_llm.operate.secrets.reference import Reference

Store: TypeAlias = Callable[[Reference], str]
"""Fetches a secret.  May block; is never called on the path of a call, but for those in :data:`AT_ONCE`."""

TIMEOUT: Final = 5.0
"""Seconds that a network store may take to answer one request."""
AT_ONCE: Final = frozenset({"env", "file", "plain"})
"""Stores that answer without waiting for anybody."""


def answers_at_once(reference: Reference) -> bool:
    """Whether asking for it waits for nobody: not a file that somebody else has to write to, as a named pipe."""
    if reference.store != "file":
        return reference.store in AT_ONCE
    try:
        return stat.S_ISREG(os.stat(_path(reference)).st_mode)
    except OSError:
        return True  # so will opening it fail


class NotThere(Exception):
    """The store works and has no such secret.  The text is ours and shows no secret."""


def from_env(reference: Reference) -> str:
    """A variable of this process."""
    value = os.environ.get(reference.path)
    if not value:
        raise NotThere(f"the variable {reference.path} is not set")
    return value


def from_file(reference: Reference) -> str:
    """A file, as Docker and Kubernetes mount secrets; space around its content is dropped."""
    path = _path(reference)
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise NotThere(f"{path} is no text") from None
    except OSError as error:
        raise NotThere(f"{path}: {error.strerror or type(error).__name__}") from None


def _path(reference: Reference) -> Path:
    return Path(reference.path).expanduser()


def from_plain(reference: Reference) -> str:
    """The value stands in the reference."""
    return reference.path


class _Keyring(Protocol):
    def get_password(self, service_name: str, username: str) -> str | None: ...


def from_keyring(reference: Reference) -> str:
    """The keyring of the operating system (extra ``keyring``): ``keyring:SERVICE/NAME``."""
    keyring = cast(_Keyring, needed("keyring", "keyring"))
    service, _, name = reference.path.partition("/")
    value = keyring.get_password(service, name)
    if value is None:
        raise NotThere(f"the keyring has no {name} of {service}")
    return value


class _Versions(Protocol):
    def read_secret_version(
        self, *, path: str, mount_point: str, raise_on_deleted_version: bool
    ) -> dict[str, dict[str, dict[str, object]]]: ...


class _Kv(Protocol):
    @property
    def v2(self) -> _Versions: ...


class _Engines(Protocol):
    @property
    def kv(self) -> _Kv: ...


class _Vault(Protocol):
    @property
    def secrets(self) -> _Engines: ...


class _Hvac(Protocol):
    def Client(self, *, timeout: float) -> _Vault: ...  # noqa: N802 - the library's name


def from_vault(reference: Reference) -> str:
    """HashiCorp Vault or OpenBao, version 2 of the key-value engine (extra ``vault``): ``vault:MOUNT/PATH#FIELD``.

    Address and token are those of the ``vault`` command: ``VAULT_ADDR``, ``VAULT_TOKEN``, ``VAULT_NAMESPACE``...
    """
    hvac = cast(_Hvac, needed("hvac", "vault"))
    mount, _, path = reference.location.partition("/")
    client = hvac.Client(timeout=TIMEOUT)
    answer = client.secrets.kv.v2.read_secret_version(path=path, mount_point=mount, raise_on_deleted_version=True)
    return field_of(answer["data"]["data"], reference)


class _SecretsManager(Protocol):
    def get_secret_value(self, *, SecretId: str) -> dict[str, str]: ...  # noqa: N803 - the library's name


class _Session(Protocol):
    def create_client(self, service_name: str, *, config: object) -> _SecretsManager: ...


def from_aws(reference: Reference) -> str:
    """AWS Secrets Manager (extra ``aws``), with the credentials botocore finds: ``aws:NAME``, ``aws:arn:...``,
    ``aws:NAME#FIELD`` of a secret that is JSON."""
    session = cast(_Session, needed("botocore.session", "aws").get_session())
    config = needed("botocore.config", "aws").Config(
        connect_timeout=TIMEOUT, read_timeout=TIMEOUT, retries={"max_attempts": 0}
    )
    answer = session.create_client("secretsmanager", config=config).get_secret_value(SecretId=reference.location)
    return _maybe_json(answer["SecretString"], reference)


class _Payload(Protocol):
    @property
    def data(self) -> bytes: ...


class _Version(Protocol):
    @property
    def payload(self) -> _Payload: ...


class _SecretManager(Protocol):
    def access_secret_version(self, *, name: str, timeout: float) -> _Version: ...


def from_gcp(reference: Reference) -> str:
    """Google Cloud's Secret Manager (extra ``gcp``): ``gcp:projects/P/secrets/NAME``, its latest version unless
    ``/versions/N`` follows."""
    client = cast(_SecretManager, needed("google.cloud.secretmanager", "gcp").SecretManagerServiceClient())
    name = reference.path if "/versions/" in reference.path else f"{reference.path}/versions/latest"
    return client.access_secret_version(name=name, timeout=TIMEOUT).payload.data.decode()


class _KeyVaultSecret(Protocol):
    @property
    def value(self) -> str | None: ...


class _KeyVault(Protocol):
    def get_secret(self, name: str, version: str | None) -> _KeyVaultSecret: ...


def from_azure(reference: Reference) -> str:
    """Azure Key Vault (extra ``azure``): ``azure:VAULT/NAME``, its latest version unless ``/VERSION`` follows."""
    vault, name, version = (*reference.path.split("/"), None)[:3]
    credential = needed("azure.identity", "azure").DefaultAzureCredential()
    make = needed("azure.keyvault.secrets", "azure").SecretClient
    client = cast(
        _KeyVault,
        make(
            vault_url=f"https://{vault}.vault.azure.net",
            credential=credential,
            connection_timeout=TIMEOUT,
            read_timeout=TIMEOUT,
            retry_total=0,
        ),
    )
    value = client.get_secret(str(name), version).value
    if value is None:
        raise NotThere(f"the secret {name} of {vault} has no value")
    return value


STORES: Final[dict[str, Store]] = {
    "env": from_env,
    "file": from_file,
    "plain": from_plain,
    "keyring": from_keyring,
    "vault": from_vault,
    "aws": from_aws,
    "gcp": from_gcp,
    "azure": from_azure,
}
"""Name of a store -> how it is asked."""


class _Module(Protocol):
    """A library without types."""

    def __getattr__(self, name: str) -> Callable[..., object]: ...


def needed(module: str, extra: str) -> _Module:
    """A library that an extra installs.  Raises ``ConfigurationError`` that names the extra."""
    try:
        return cast(_Module, import_module(module))
    except ImportError:
        raise ConfigurationError(f"it needs pip install 'resilient-llm[{extra}]'") from None


def field_of(held: object, reference: Reference) -> str:
    """The field of a secret that is a mapping."""
    if not isinstance(held, dict):
        raise NotThere(f"the secret {reference.location} is no object with fields")
    fields = cast("dict[str, object]", held)
    value = fields.get(reference.field)
    if not isinstance(value, str):
        raise NotThere(f"the secret {reference.location} has no text {reference.field}; it has {', '.join(fields)}")
    return value


def _maybe_json(text: str, reference: Reference) -> str:
    if not reference.field:
        return text
    try:
        held: object = json.loads(text)
    except ValueError:
        raise NotThere(f"the secret {reference.location} is not JSON and has no {reference.field}") from None
    return field_of(held, reference)

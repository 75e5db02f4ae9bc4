"""Signatures (extra `sign`, the library model-signing).

A key vouches for the manifest, and the manifest for every byte by its hash.

policy.yaml, in the workspace or the user's configuration folder:
signatures:
  - {remote: "hf:acme/*", keys: [acme.pub]}      # a pull from there must be signed by one of these keys
"""

import base64
import fnmatch
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..adapter.layout import MANIFEST, SIGNATURE
from ..adapter.store import Store
from ..adapter.verify import verify_folder
from ..adapter.workspace import Workspace
from ..config.registry import user_path
from ..config.remotes import RemoteRef
from ..core.errors import Integrity, NotFound, Usage
from ..core.files import parse_json, read_bounded
from ..core.install import missing
from ..core.strict import Strict, structure

POLICY = "policy.yaml"


class SigningRule(Strict, frozen=True):
    remote: str
    """Pattern of shell wildcards over `scheme:location`."""
    keys: tuple[str, ...]
    """Files of public keys (PEM), relative to the policy's folder; one of them must have signed."""


class Policy(Strict, frozen=True):
    signatures: tuple[SigningRule, ...] = ()


def sign(folder: Path, key: Path) -> None:
    """Sign an adapter of the store with a private elliptic-curve key (PEM); an older signature is replaced.

    Raises `Usage` for what is no such key.
    """
    signer = check_key(key)
    verify_folder(folder)
    store = Store(folder.parent.parent)
    with store.staging() as staged:
        (staged / MANIFEST).write_bytes(read_bounded(folder / MANIFEST))
        signature = staged / SIGNATURE
        signer.sign(staged, signature)
        store.write(folder / SIGNATURE, signature.read_bytes())


def check_key(key: Path) -> Any:
    """What signs with a private key; raises `Usage` for what is none, `NotFound`, `MissingExtra`."""
    library = _library()
    _readable(key, "private key")
    try:
        return library.signing.Config().use_elliptic_key_signer(private_key=key)
    except (ValueError, TypeError) as error:
        raise Usage(
            f"{key} is no private key that can sign: {' '.join(str(error).split())[:120]}",
            "make one: openssl ecparam -genkey -name prime256v1",
        ) from None


def check(folder: Path, keys: Sequence[Path], who: str) -> Path:
    """The key that signed the manifest; raises `Integrity` when none of them did.

    The bytes themselves are held against the manifest by `adapter.verify.verify_folder`, before or after.
    """
    library = _library()
    for key in keys:
        _readable(key, "public key")
    if not (folder / SIGNATURE).is_file():
        raise Integrity(f"{who} is not signed", "ask its author for a signed one: `resa-hub push --sign KEY`")
    if _signed_files(folder) != {MANIFEST}:
        raise Integrity(f"the signature of {who} is not of its {MANIFEST} alone", "ask its author to sign it again")
    for key in keys:
        verifier = library.verifying.Config()
        try:
            verifier.use_elliptic_key_verifier(public_key=key).set_ignore_unsigned_files(True)
            verifier.verify(folder, folder / SIGNATURE)
            return key
        # The library raises ValueError, cryptography's own and its parsers' errors; each means: not by this key, or not
        # of these bytes.
        except Exception:
            continue
    raise Integrity(f"{who} is not signed by {' or '.join(map(str, keys))}", "do not use it, or check the key")


def required(ref: RemoteRef, workspace: Workspace) -> list[Path]:
    """The keys of which a pull from a remote needs one; empty where no rule speaks of it.

    Raises `Usage` for a policy that cannot be read.
    """
    place = f"{ref.scheme}:{ref.location}"
    keys: list[Path] = []
    for path in (user_path().with_name(POLICY), workspace.folder / POLICY):
        if path.is_file():
            keys += [
                path.parent / Path(key).expanduser()
                for rule in _read_policy(path).signatures
                if fnmatch.fnmatchcase(place, rule.remote)
                for key in rule.keys
            ]
    return keys


def _read_policy(path: Path) -> Policy:
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, OSError, UnicodeDecodeError) as error:
        raise Usage(
            f"{path} cannot be read: {str(error).splitlines()[0]}",
            "mend it: nothing is pulled while the policy is unknown",
        ) from None
    return structure(content, Policy, str(path))


def _signed_files(folder: Path) -> set[str]:
    """The names of the files that a signature speaks of; an empty set for what is no signature."""
    try:
        bundle: Any = parse_json(read_bounded(folder / SIGNATURE), SIGNATURE)
        statement = json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"], validate=True))
        return {resource["name"] for resource in statement["predicate"]["resources"]}
    except (KeyError, TypeError, ValueError, RecursionError):
        return set()


def _library() -> Any:
    try:
        import model_signing
    except ImportError:
        raise missing("signatures need model-signing", "sign") from None
    return model_signing


def _readable(path: Path, what: str) -> None:
    if not path.is_file():
        raise NotFound(f"the {what} {path} does not exist", "check the path")

"""What all sections of the configuration have in common."""

from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """Base of all sections: unknown keys, and values of another type, are errors."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True
    )


def check_url(url: str, schemes: tuple[str, ...], secret: str) -> None:
    """Refuse what is no URL of a service.

    Parameters
    ----------
    secret
        The environment variable that a password belongs in.

    Raises
    ------
    ValueError
        Saying what is wrong.
    """
    if not url.lower().startswith(tuple(f"{scheme}://" for scheme in schemes)):
        raise ValueError('must start with "http://" or "https://"')
    # A URL is shown in messages; what the variable holds is masked wherever it would be.
    if "@" in url:
        raise ValueError(f"a password does not belong here; set {secret}")
    try:
        parts = urlsplit(url)
        # Looked at on purpose: urlsplit checks a port only when it is asked for.
        port = parts.port
    except ValueError as error:
        raise ValueError(f"not a URL: {error}; ports are from 1 to 65535") from None
    if port == 0 or (parts.scheme != "unix" and not parts.hostname):
        raise ValueError("not a URL of a service: http://HOST:PORT, ports are from 1 to 65535")

"""What people call things: APP, APP/INSTANCE, or an INSTANCE alone where one app alone has it."""

from __future__ import annotations

from typing import Any

from proxy.cli.client import ApiError, Gateway, segment


def instance_path(gateway: Gateway, text: str, verb: str = "") -> str:
    """The API's path of an instance; without a verb, its own. Raises ApiError where it is not clear which."""
    app, instance = instance_of(gateway, text)
    return f"apps/{segment(app)}/instances/{segment(instance)}" + (f"/{verb}" if verb else "")


def instance_of(gateway: Gateway, text: str, *, or_only: bool = False) -> tuple[str, str]:
    """App and instance. `or_only`: an app's name will do where it has one instance. Raises ApiError."""
    if (split := maybe_split(text)) is not None and split[1]:
        return split
    apps = gateway.get("apps")["items"]
    if len(owners := owners_of(apps, text)) == 1:
        return owners[0], text
    if owners:
        raise ApiError(409, f"{text} is an instance of several apps", "", f"Say {owners[0]}/{text}.")
    for one in apps:
        if one["id"] == text:
            names = [each["id"] for each in one["instances"]]
            if or_only and len(names) == 1:
                return text, names[0]
            which = f"Its instances: {', '.join(names[:20])}." if names else "It has none now."
            raise ApiError(404, f"{text} is an app", "", f"Say {text}/INSTANCE. {which}")
    raise ApiError(404, f"There is no instance {text}", "", "triage status lists them.")


def app_or_instance(gateway: Gateway, text: str) -> tuple[str, str]:
    """App and instance; the latter "" where an app was named. Raises ApiError."""
    if (split := maybe_split(text)) is not None:
        return split
    apps = gateway.get("apps")["items"]
    if any(one["id"] == text for one in apps):
        return text, ""
    if len(owners := owners_of(apps, text)) == 1:
        return owners[0], text
    if owners:
        raise ApiError(409, f"{text} is an instance of several apps", "", f"Say {owners[0]}/{text}.")
    names = ", ".join(one["id"] for one in apps) or "none"
    raise ApiError(404, f"There is no app or instance {text}", "", f"Apps are: {names}.")


def maybe_split(text: str) -> tuple[str, str] | None:
    """Of APP/INSTANCE; an address such as http://10.0.0.5 is none."""
    app, slash, name = text.partition("/")
    return (app, name) if slash and app and ":" not in app else None


def owners_of(apps: list[dict[str, Any]], text: str) -> list[str]:
    """Apps with an instance of that name."""
    return [one["id"] for one in apps if any(each["id"] == text for each in one["instances"])]

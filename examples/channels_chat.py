r"""A chat on Django Channels, for any number of server processes, over Redis or NATS.

$ export CHAT_URL=redis://localhost:6379
$ uvicorn examples.channels_chat:application --port 8001
$ uvicorn examples.channels_chat:application --port 8002

Or Django's own server, which Daphne replaces and which reloads: `python -m examples.channels_chat runserver`.
"""

# mypy: disable-error-code="import-untyped, misc, untyped-decorator"
# pyright: basic, reportMissingTypeStubs=false
# -- neither Django nor Channels is typed

import os
import sys
from typing import Any

import django
from django.conf import settings

settings.configure(
    SECRET_KEY=os.environ.get("CHAT_SECRET_KEY", "of an example"),
    DEBUG=bool(os.environ.get("CHAT_DEBUG")),
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    ASGI_APPLICATION=f"{__name__}.application",
    INSTALLED_APPS=[*(["daphne"] if "runserver" in sys.argv else []), "channels", "backplane_channels"],
    CHANNEL_LAYERS={
        "default": {
            "BACKEND": "backplane_channels.BackplaneChannelLayer",
            "CONFIG": {"url": os.environ["CHAT_URL"], "on_gap": "backplane.gap", "capacity": 10_000},
        }
    },
)
django.setup()

# What needs the settings.
from channels.generic.websocket import AsyncJsonWebsocketConsumer  # noqa: E402
from channels.layers import get_channel_layer  # noqa: E402
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from django.core.asgi import get_asgi_application  # noqa: E402
from django.core.management import execute_from_command_line  # noqa: E402
from django.http import HttpRequest, HttpResponse  # noqa: E402
from django.urls import path  # noqa: E402
from django.views.decorators.csrf import csrf_exempt  # noqa: E402


class ChatConsumer(AsyncJsonWebsocketConsumer):
    """One page: it is in rooms, and gets what is said there."""

    async def connect(self) -> None:
        """Let anyone in: put your own check here."""
        await self.accept()

    async def receive_json(self, content: dict[str, Any], **_: Any) -> None:  # noqa: ANN401 -- Channels' own
        """Join a room, leave it, or say something in it."""
        match content:
            case {"join": str(room)}:
                await self.channel_layer.group_add(room, self.channel_name)
                await self.send_json({"joined": room})
            case {"leave": str(room)}:
                await self.channel_layer.group_discard(room, self.channel_name)
                await self.send_json({"left": room})
            case {"say": text, "room": str(room)}:
                await self.channel_layer.group_send(room, {"type": "chat.said", "room": room, "text": text})
            case _:
                await self.close(code=4400)

    async def chat_said(self, message: dict[str, Any]) -> None:
        """Show what was said."""
        await self.send_json({"room": message["room"], "text": message["text"]})

    async def backplane_gap(self, message: dict[str, Any]) -> None:
        """Have the page reload what was said: something may be missing here."""
        await self.send_json({"reload": message["cause"]})


@csrf_exempt
def say(request: HttpRequest, room: str) -> HttpResponse:
    """Say something from a view without an event loop."""
    message = {"type": "chat.said", "room": room, "text": request.body.decode()}
    layer: Any = get_channel_layer()
    layer.publisher.group_send(room, message)
    return HttpResponse(status=204)


urlpatterns = [path("rooms/<str:room>", say)]
sockets: Any = [path("chat", ChatConsumer.as_asgi())]
application = ProtocolTypeRouter({"http": get_asgi_application(), "websocket": URLRouter(sockets)})

if __name__ == "__main__":
    execute_from_command_line(sys.argv)

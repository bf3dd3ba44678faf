from __future__ import annotations

from importlib import import_module
from typing import Any, Final

from backplane_asgi import Receive, Scope, Send

from tests.product.asgi.mounts.common import endpoints, opened

# It comes without types.
django: Final[Any] = import_module("django")
import_module("django.conf").settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="of a test")
django.setup()


def page(_: object) -> Any:
    return import_module("django.http").HttpResponse("a page")


urlpatterns = [import_module("django.urls").path("page", page)]
site: Final[Any] = import_module("django.core.asgi").get_asgi_application()
mounted = endpoints()


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":  # which Django has not
        await receive()
        async with opened() as backplane:
            scope["state"]["backplane"] = backplane
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    endpoint = mounted.get("/" + str(scope["path"]).split("/")[1])
    await (endpoint or site)(scope, receive, send)

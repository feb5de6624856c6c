"""The portal: `uvicorn app.main:app`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from .config import ops_webhook
from .onboarding import router
from .session import SessionMiddleware


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    async with ops_webhook.running():
        yield


app = FastAPI(title="Onboarding portal", lifespan=lifespan)
app.add_middleware(SessionMiddleware)
app.include_router(router)

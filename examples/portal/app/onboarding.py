"""The onboarding's routes. Each tells ops of its step by one line, `emit_event`."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, BackgroundTasks, Query, Request
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from .config import activity_log, ops_webhook

router = APIRouter(prefix="/api/onboarding")

Email = Annotated[str, StringConstraints(pattern=r"^[^@\s]+@[^@\s]+\.[^@\s]+$", max_length=254)]
Domain = Annotated[str, StringConstraints(pattern=r"^[^\s/@:]+\.[^\s/@:]+$", max_length=253)]
Alias = Annotated[str, StringConstraints(pattern=r"^[a-z0-9._-]+$", max_length=64)]
Code = Annotated[str, StringConstraints(pattern=r"^[a-z0-9_]+$", max_length=64)]
DnsMode = Literal["cloudflare", "manual"]


class Step(BaseModel):
    """What every step is about."""

    model_config = ConfigDict(extra="forbid")
    domain: Domain


class Account(Step):
    """A new account. A real portal finds out by itself whether it is verified and needs a review."""

    email: Email
    account_verified: bool = False
    needs_review: bool = False
    dns_mode: DnsMode
    mail_aliases: list[Alias] = Field(default=[], max_length=50)


class Dns(Step):
    dns_mode: DnsMode


class Failure(Step):
    step: Code
    reason: Code


@router.get("/health")
async def health() -> dict[str, str]:
    return {"status": "ok"}


@router.post("/create-account")
async def create_account(account: Account, request: Request, background: BackgroundTasks) -> dict[str, str]:
    # What ops gets is named here and nowhere else (T014): a new field of the account does not leave the portal by itself.
    data = account.model_dump(include={"email", "account_verified", "needs_review", "dns_mode", "mail_aliases"})
    return await done("account.created", account, data, request, background)


@router.post("/validate-domain")
async def validate_domain(step: Step, request: Request, background: BackgroundTasks) -> dict[str, str]:
    return await done("domain.validated", step, {}, request, background)


@router.post("/apply-dns")
async def apply_dns(dns: Dns, request: Request, background: BackgroundTasks) -> dict[str, str]:
    return await done("dns.applied", dns, {"dns_mode": dns.dns_mode}, request, background)


@router.post("/complete")
async def complete(step: Step, request: Request, background: BackgroundTasks) -> dict[str, str]:
    return await done("onboarding.completed", step, {}, request, background)


@router.post("/fail")
async def fail(failure: Failure, request: Request, background: BackgroundTasks) -> dict[str, str]:
    data = {"step": failure.step, "reason": failure.reason}
    return await done("onboarding.failed", failure, data, request, background)


@router.get("/activity")
def activity(
    level: Literal["info", "warn"] | None = None, limit: Annotated[int, Query(ge=1, le=500)] = 100
) -> dict[str, Any]:
    return {"items": activity_log.entries(level, limit)}


async def done(
    event: str, step: Step, data: dict[str, Any], request: Request, background: BackgroundTasks
) -> dict[str, str]:
    """The step is done: tells ops, and answers."""
    session_id = request.state.session_id
    await ops_webhook.emit_event(event, session_id, step.domain, data, background)
    return {"event": event, "session_id": session_id, "domain": step.domain}

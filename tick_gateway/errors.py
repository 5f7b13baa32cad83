"""The tree of errors: each has its HTTP status and, if a reader can get it, its WebSocket close code.

    GatewayError
    ├── ClientError              the client's fault: 4xx, said in one sentence
    │   ├── ParameterError       400  a query parameter that is malformed or contradicts another
    │   │   └── UnknownParameter 400  … or does not exist
    │   ├── NotFound             404  a tick, a run or a path that is not there
    │   ├── NotAllowed           401/403  publishing without the right
    │   ├── OwnSource            409  publishing to a gateway that has a source of its own
    │   │   └── Tailing          409  … which is a directory that it follows
    │   ├── BodyError            400/413/415  a request body that cannot be accepted as a whole
    │   │   ├── BodyTooBig       413  … more bytes of JSON than ``max_body``
    │   │   └── BadEncoding      415  … in a content coding that is not accepted
    │   ├── LinesRefused         422  published lines that are refused for different reasons
    │   ├── NotAcceptable        406  no available content coding is accepted by the client
    │   ├── Expectation          417  a request with an expectation that is not supported
    │   └── NotAWebSocket        426  a request to a WebSocket path without an opening handshake
    ├── TransferCoding           501  a request body in a transfer coding that is not supported
    ├── HTTPVersion              505  a request of an HTTP version other than 1.1 and 1.0
    ├── Overloaded               503  no room for another reader; WebSocket close code 1013
    │   └── TooManyViews         503  too many different views are open
    ├── TickError                a published tick that is refused; the ticks around it stand
    │   ├── RecordError          an in-process record that has no JSON form
    │   ├── Malformed            not a JSON object with a valid ``t``
    │   ├── TooBig               more bytes than ``max_tick``
    │   ├── Conflict             another tick with this number was published before
    │   ├── Unreadable           503  a resent tick that cannot be compared with the stored one
    │   ├── OutOfOrder           a number that the run skipped
    │   └── RunClosed            409  the named run is over
    ├── InboxFull                the gateway cannot keep up with this publisher
    ├── NotServing               the gateway has not started, or is over: nobody could read a tick
    │   └── WrongProcess         it serves from another process
    ├── HistoryError             history cannot be kept or read as it stands
    │   ├── Damaged              stored bytes are not those that were written
    │   └── Locked               another process keeps history in this directory
    └── SettingError             a setting that does not parse; exit code 2 on the command line

Errors carry fields and build their message from them. No message contains a file system path or a traceback.
"""

from __future__ import annotations

from collections.abc import Sequence


class GatewayError(Exception):
    """A fault of the gateway, whose details are in its log; also the base of all errors that it raises on purpose.

    Attributes:
        status: its HTTP status.
        statuses: all HTTP statuses that it may have, if there are several.
        code: one word for programs, stable across releases.
    """

    status = 500
    statuses: tuple[int, ...] = ()
    code = "internal"

    def as_dict(self) -> dict[str, object]:
        """The JSON body of the HTTP answer for this error."""
        return {"error": self.code, "message": str(self)}

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle the message and the fields. By default, unpickling calls the class with the message only; where that
        fails in a process pool, the parent waits forever."""
        return _restored, (type(self), self.args), self.__dict__


def _restored(kind: type[GatewayError], args: tuple[object, ...]) -> GatewayError:
    """An unpickled error, made without its constructor."""
    return kind.__new__(kind, *args)


class ClientError(GatewayError):
    """A request that cannot be served as it is."""

    status = 400
    code = "bad_request"


class ParameterError(ClientError):
    """A query parameter that is unknown, malformed or contradicts another."""

    code = "bad_parameter"

    def __init__(self, parameter: str, problem: str) -> None:
        self.parameter = parameter
        super().__init__(f"{parameter}: {problem}")

    def as_dict(self) -> dict[str, object]:
        return {**super().as_dict(), "parameter": self.parameter}


class UnknownParameter(ParameterError):
    """A query parameter that does not exist."""

    code = "unknown_parameter"


class NotFound(ClientError):
    """A tick, a run or a path that is not there."""

    status = 404
    code = "not_found"


class NotAllowed(ClientError):
    """Not allowed to publish; ``status`` is 401 if a token would help, else 403."""

    statuses = (401, 403)
    code = "not_allowed"

    def __init__(self, message: str, status: int = 403) -> None:
        self.status = status
        super().__init__(message)


class OwnSource(ClientError):
    """Publishing to a gateway that has a source of its own: ticks of both would be mixed."""

    status = 409
    code = "own_source"

    def __init__(self, source: str) -> None:
        """``source`` completes a sentence that begins with "this gateway": what it does, and what to do instead."""
        super().__init__(f"this gateway {source}")


class Tailing(OwnSource):
    """Publishing to a gateway that follows a directory."""

    code = "tailing"

    def __init__(self) -> None:
        super().__init__(
            "follows a directory (--tail) and takes no other ticks: they would move the tip past the "
            "directory's own, which were lost then; write a file there, or publish to a gateway without --tail"
        )


class BodyError(ClientError):
    """A request body that cannot be accepted as a whole."""

    statuses: tuple[int, ...] = (400, 413, 415)
    code = "bad_body"

    def __init__(self, message: str, status: int = 400) -> None:
        self.status = status
        super().__init__(message)


class BodyTooBig(BodyError):
    """More bytes of JSON than ``max_body``; ``cure`` says what to do about it, if that is known."""

    statuses: tuple[int, ...] = (413,)
    code = "too_big"

    def __init__(self, limit: int, cure: str = "") -> None:
        problem = f"the JSON has more than {limit} bytes (setting max_body); NDJSON may be of any length"
        super().__init__(problem + cure, 413)


class BadEncoding(BodyError):
    """A body in a content coding that is not accepted, or in several."""

    statuses: tuple[int, ...] = (415,)
    code = "bad_encoding"

    def __init__(self, encoding: str, accepted: Sequence[str]) -> None:
        told = " or ".join(accepted)
        super().__init__(f"Content-Encoding {encoding!r:.80} is not accepted; accepted: {told}, once", 415)


class LinesRefused(ClientError):
    """Published lines that are refused for different reasons."""

    status = 422
    code = "refused"


class NotAcceptable(ClientError):
    """A request that accepts neither an available content coding nor an uncoded answer (RFC 9110, section 12.5.3)."""

    status = 406
    code = "not_acceptable"

    def __init__(self, header: str, codings: Sequence[str]) -> None:
        accepted = ", ".join([*codings, "identity"])
        super().__init__(f"Accept-Encoding {header!r:.80} leaves no coding; there are: {accepted}")


class Expectation(ClientError):
    """A request with an expectation that is not supported (RFC 9110, section 10.1.1)."""

    status = 417
    code = "expectation_failed"

    def __init__(self, expected: str) -> None:
        super().__init__(f"Expect {expected!r:.80} cannot be met; accepted: 100-continue")


class NotAWebSocket(ClientError):
    """A request to a WebSocket path that is not an opening handshake (RFC 6455, section 4.2.1)."""

    status = 426
    code = "not_a_websocket"


class TransferCoding(GatewayError):
    """A request body in a transfer coding that is not supported (RFC 9112, section 6.1)."""

    status = 501
    code = "transfer_coding"

    def __init__(self, codings: str) -> None:
        super().__init__(
            f"Transfer-Encoding {codings!r:.80} is not known; accepted: chunked (a body may have a Content-Encoding)"
        )


class HTTPVersion(GatewayError):
    """A request of an HTTP version other than 1.1 and 1.0."""

    status = 505
    code = "http_version"

    def __init__(self) -> None:
        super().__init__("HTTP/1.1 is spoken here")


class Overloaded(GatewayError):
    """No room for another reader, or the gateway is shutting down; it may come back later."""

    status = 503
    code = "overloaded"

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or "no room for another reader now; come back later (setting max_connections)")


class TooManyViews(Overloaded):
    """Too many different views are open; each costs work for every tick."""

    code = "too_many_views"

    def __init__(self, most: int) -> None:
        super().__init__(
            f"as many different views (fields, every, batch, stamp, event) are open as there may be, {most}; use one "
            "of them or the whole tick, or come back later (setting max_views)"
        )


class TickError(GatewayError):
    """A published tick that is refused. ``t`` is its number if it could be read, else None."""

    status = 422
    code = "bad_tick"

    def __init__(self, message: str, t: int | None = None) -> None:
        self.t = t
        super().__init__(message)


class RecordError(TickError, ValueError):
    """An in-process record that has no JSON form, with the path of the offending value (empty: the record itself)."""

    code = "bad_record"

    def __init__(self, problem: str, path: str = "") -> None:
        self.path = path
        self.problem = problem
        super().__init__(f"{path}: {problem}" if path else problem)


class Malformed(TickError):
    """Not a JSON object with a valid ``t``."""

    code = "malformed"


class TooBig(TickError):
    """More bytes than ``max_tick`` allows."""

    status = 413
    code = "too_big"

    def __init__(self, size: int, limit: int) -> None:
        self.size, self.limit = size, limit
        super().__init__(f"the tick has {size} bytes or more; at most {limit} are accepted (setting max_tick)")


class Conflict(TickError):
    """Another tick with this number was published before, with different bytes."""

    code = "conflict"

    def __init__(self, run: str, t: int, stored: int | None = None) -> None:
        """``stored``: the tip of the run as an earlier process stored it, if this one has added nothing to it."""
        advice = (
            ""
            if stored is None
            else (
                f". The run was stored by an earlier process, up to tick {stored}: a simulation that starts over needs "
                "another name, or none"
            )
        )
        super().__init__(f"tick {t} of run {run} was published before with other content; the first stands{advice}", t)


class Unreadable(TickError):
    """A resent tick that cannot be compared with the stored one, because the disk does not answer."""

    status = 503
    code = "unreadable"

    def __init__(self, run: str, t: int) -> None:
        super().__init__(f"what is stored of tick {t} of run {run} cannot be read now; send it again later", t)


class OutOfOrder(TickError):
    """A number at or below the tip that this run skipped."""

    code = "out_of_order"

    def __init__(self, run: str, t: int, tip: int) -> None:
        self.tip = tip
        super().__init__(f"tick {t} comes after tick {tip} of run {run}; t must rise within a run", t)


class RunClosed(TickError):
    """The named run is over; runs never open again."""

    status = 409
    code = "run_closed"

    def __init__(self, run: str, t: int | None = None) -> None:
        self.run = run
        super().__init__(f"run {run} is over and takes no more ticks; name a new run", t)


class InboxFull(GatewayError):
    """The gateway's loop has not collected earlier ticks yet; this one was dropped, and readers will see a gap."""

    status = 503
    code = "inbox_full"

    def __init__(self, waited: float, t: int | None = None, *, started: bool = True) -> None:
        self.waited, self.t = waited, t
        why = "" if started else ", and the gateway has not started"
        super().__init__(
            f"the inbox was full for {waited:g} s{why}; the tick was dropped (settings inbox, publish_timeout)"
        )


class NotServing(GatewayError):
    """The gateway has not started, or is over, so nobody could read what is published; the message says how to
    start."""

    status = 503
    code = "not_serving"
    t: int | None = None


class WrongProcess(NotServing):
    """The gateway serves from another process; the message says how to publish from this one."""

    code = "wrong_process"


class HistoryError(GatewayError):
    """History cannot be kept or read as it stands."""

    code = "history"


class Damaged(HistoryError):
    """Stored bytes that are not those that were written; they are never served."""

    code = "damaged"


class Locked(HistoryError):
    """Another gateway keeps history in this directory; ``holder`` is its process id, or empty."""

    code = "locked"

    def __init__(self, directory: str, holder: str, advice: str = "one gateway a directory") -> None:
        self.directory, self.holder = directory, holder
        by = f"process {holder}" if holder else "another process"
        super().__init__(f"{directory} is in use by {by}: {advice}")


class SettingError(GatewayError):
    """A setting that does not parse or contradicts another."""

    code = "bad_setting"

    def __init__(self, name: str, problem: str) -> None:
        self.name, self.problem = name, problem
        super().__init__(f"{name}: {problem}")

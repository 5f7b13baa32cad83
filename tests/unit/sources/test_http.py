"""POST /publish and POST /runs/{run}/end: the forms of a body, runs, duplicates, refusals, and what is answered."""

from __future__ import annotations

import asyncio
import gzip
import json
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.bad_lines import REFUSED
from tests.support.needs import program
from tests.support.serving import Serving, serving
from tick_gateway.sources import http

PRETTY = b'{\n  "t": 3,\n  "x": {\n    "y": [1, 2.50, "\\u00e9"]\n  }\n}'


@pytest.fixture
async def gateway() -> AsyncIterator[Serving]:
    async with serving(max_tick=1000, max_body=5000) as found:
        yield found


async def test_ndjson(gateway: Serving) -> None:
    body = b'{"t":1}\n\n  {"t": 2, "x": 1.50}\r\n{"t":5}'
    answer = await gateway.post(body, Content_Type="application/x-ndjson")
    run = answer.pop("run")
    assert answer == {"accepted": 3, "duplicates": 0, "tip": 5, "stored": False}
    assert await gateway.ticks(run) == [b'{"t":1}', b'{"t": 2, "x": 1.50}', b'{"t":5}']


@pytest.mark.parametrize("media_type", ["application/json", "application/x-www-form-urlencoded", "text/plain"])
@pytest.mark.parametrize(
    ("body", "ticks"),
    [
        (b'{"t":3}', [b'{"t":3}']),
        (PRETTY, [PRETTY.replace(b"\n", b" ")]),
        (PRETTY + b"\n\n" + PRETTY.replace(b"3", b"4"), [PRETTY.replace(b"\n", b" "), b"..."]),
        (b' [ {"t" : 3}, {"t":4,"x":"]"}\n,{"t":5,"y":1e2} ] ', [b'{"t" : 3}', b'{"t":4,"x":"]"}', b'{"t":5,"y":1e2}']),
        (b'{"t":3}\n{"t":4}\n', [b'{"t":3}', b'{"t":4}']),
    ],
    ids=["an object", "a pretty object", "pretty objects", "an array", "lines"],
)
async def test_json_of_every_form(gateway: Serving, media_type: str, body: bytes, ticks: list[bytes]) -> None:
    answer = await gateway.post(body, Content_Type=media_type)
    assert answer["accepted"] == len(ticks)
    expected = [tick if tick != b"..." else ticks[0].replace(b"3", b"4") for tick in ticks]
    assert await gateway.ticks() == expected


LINES = b'{"t":1,"x":"\xe2\x80\xa8\xc3\xa9"}\r\n{"t":2,"x":[1.10,\n2]}\r\n'
PRETTY_LINES = b'{\n  "t": 1,\n  "x": "a&b=%7B+"\n}\n'


@pytest.mark.parametrize(
    ("how", "content", "ticks"),
    [
        ("--data-binary", LINES.replace(b",\n2", b",2"), [b'{"t":1,"x":"\\u2028\xc3\xa9"}', b'{"t":2,"x":[1.10,2]}']),
        ("-d", LINES, [b'{"t":1,"x":"\\u2028\xc3\xa9"}', b'{"t":2,"x":[1.10,2]}']),
        (
            "-d",
            PRETTY_LINES + PRETTY_LINES.replace(b"1", b"2"),
            [b'{  "t": 1,  "x": "a&b=%7B+"}', b'{  "t": 2,  "x": "a&b=%7B+"}'],
        ),
        ("--data-binary", PRETTY_LINES, [b'{   "t": 1,   "x": "a&b=%7B+" }']),
        ("--json", b'[\n  {"t": 1},\n  {"t": 2}\n]\n', [b'{"t": 1}', b'{"t": 2}']),
        ("-T", LINES.replace(b",\n2", b",2"), [b'{"t":1,"x":"\\u2028\xc3\xa9"}', b'{"t":2,"x":[1.10,2]}']),
        ("--data-binary", b"\xef\xbb\xbf" + PRETTY_LINES, [b'{   "t": 1,   "x": "a&b=%7B+" }']),
        ("-d", b"\xef\xbb\xbf" + LINES, [b'{"t":1,"x":"\\u2028\xc3\xa9"}', b'{"t":2,"x":[1.10,2]}']),
    ],
)
async def test_files_that_curl_sends(
    gateway: Serving, tmp_path: Path, how: str, content: bytes, ticks: list[bytes]
) -> None:
    answer = await curl(gateway, tmp_path, how, content)
    assert (answer["accepted"], answer.get("errors")) == (len(ticks), None), answer
    assert await gateway.ticks() == ticks


@pytest.mark.parametrize(
    ("how", "content", "words"),
    [
        ("-F", LINES, "a form in parts (multipart/form-data); send the file itself"),
        ("--data-urlencode", LINES, "the encoding of web forms: send JSON (curl: --data-binary)"),
        ("--data-binary", '{"t":1}\n'.encode("utf-16"), "the body is UTF-16 or UTF-32, not UTF-8"),
        ("--data-binary", gzip.compress(LINES, mtime=0), "compressed with gzip: decompress it first"),
        ("-d", b'{"t":1}\n' * 1000, "--data-binary leaves its lines whole"),
    ],
)
async def test_files_that_curl_sends_in_a_way_that_is_not_taken(
    gateway: Serving, tmp_path: Path, how: str, content: bytes, words: str
) -> None:
    answer = await curl(gateway, tmp_path, how, content)
    assert words in answer["message"] and answer.get("accepted", 0) == 0, answer


async def curl(gateway: Serving, tmp_path: Path, how: str, content: bytes) -> Any:
    """What is answered to a file that curl sends."""
    file = tmp_path / "ticks"
    file.write_bytes(content)
    named = {"-F": f"ticks=@{file}", "-T": str(file), "--data-urlencode": f"@{file}"}.get(how, f"@{file}")
    process = await asyncio.create_subprocess_exec(
        program("curl"), "-sS", "-X", "POST", how, named, f"http://127.0.0.1:{gateway.port}/publish", stdout=PIPE
    )
    answer, _ = await process.communicate()
    return json.loads(answer)


async def test_several_objects_on_one_line_are_json(gateway: Serving) -> None:
    assert (await gateway.post(b'{"t":1} {"t":2}{"t":3}', Content_Type="application/json"))["accepted"] == 3


async def test_read_your_write(gateway: Serving) -> None:
    for t in range(50):
        await gateway.post(b'{"t":%d}' % t)
        assert await gateway.get("/latest") == {"t": t}
        assert (await gateway.get("/meta"))["tip"] == t


async def test_an_endless_body_is_published_as_it_arrives(gateway: Serving) -> None:
    pieces: asyncio.Queue[bytes] = asyncio.Queue()

    async def body() -> AsyncIterator[bytes]:
        while piece := await pieces.get():
            yield piece

    publishing = asyncio.create_task(gateway.post(body()))
    pieces.put_nowait(b'{"t":0}\n')
    async with gateway.client.get("/ndjson") as stream:
        for t in range(1, 20):
            assert json.loads(await stream.content.readline()) == {"t": t - 1}
            line = b'{"t":%d}\n' % t
            cut = 1 + t % (len(line) - 1)  # anywhere: what is whole goes out before the rest is there
            pieces.put_nowait(line[:cut])
            pieces.put_nowait(line[cut:])
    assert not publishing.done()
    pieces.put_nowait(b'{"t":20}')
    pieces.put_nowait(b"")
    answer = await publishing
    assert (answer["accepted"], answer["tip"]) == (21, 20)


async def test_a_long_body_lets_others_have_their_turn(gateway: Serving) -> None:
    lines = b"".join(b'{"t":%d,"x":"%s"}\n' % (t, b"x" * 900) for t in range(20_000))
    publishing = asyncio.create_task(gateway.post(lines, Content_Type="application/x-ndjson"))
    answered = 0
    while not publishing.done():
        await gateway.get("/healthz")
        answered += 1
    assert (await publishing)["accepted"] == 20_000
    assert answered > 3


async def test_a_named_run(gateway: Serving) -> None:
    assert (await gateway.post(b'{"t":1}', Tick_Run="one"))["run"] == "one"
    assert (await gateway.post(b'{"t":2}', path="/publish?run=one"))["run"] == "one"
    assert (await gateway.post(b'{"t":3}', path="/publish?run=one", Tick_Run="one"))["tip"] == 3
    assert (await gateway.post(b'{"t":4}'))["run"] == "one"  # without a name: the current one
    assert (await gateway.post(b'{"t":1}', Tick_Run="two"))["run"] == "two"
    runs = {run["run"]: run for run in (await gateway.get("/runs"))["runs"]}
    assert runs["one"]["ended"] and not runs["two"]["ended"]
    assert (runs["one"]["count"], runs["one"]["last"]) == (4, 4)


async def test_what_was_sent_again_is_a_duplicate(gateway: Serving) -> None:
    await gateway.post(b'{"t":1}\n{"t":2}\n{"t":3}\n', Tick_Run="one")
    answer = await gateway.post(b'{"t":2}\n {"t":3} \n{"t":4}\n', Tick_Run="one")
    assert (answer["accepted"], answer["duplicates"], answer["tip"]) == (1, 2, 4)
    await gateway.post(b'{"t":0}', Tick_Run="two")
    late = await gateway.post(b'{"t":4}', Tick_Run="one")  # of a run that is over, too
    assert (late["run"], late["accepted"], late["duplicates"], late["tip"]) == ("one", 0, 1, 4)
    assert await gateway.ticks("one") == [b'{"t":%d}' % t for t in (1, 2, 3, 4)]


async def test_what_is_no_longer_stored_counts_as_a_duplicate() -> None:
    async with serving(ring=10) as gateway:
        await gateway.post(b"".join(b'{"t":%d}\n' % t for t in range(100)), Tick_Run="one")
        answer = await gateway.post(b'{"t":5}\n{"t":99}\n', Tick_Run="one")
        assert (answer["accepted"], answer["duplicates"]) == (0, 2)


async def test_a_conflict_leaves_the_first(gateway: Serving) -> None:
    await gateway.post(b'{"t":1}\n{"t":2,"x":1}\n', Tick_Run="one")
    answer = await gateway.post(b'{"t":2,"x":2}\n{"t":3}\n', Tick_Run="one", status=422)
    assert (answer["accepted"], answer["refused"], answer["tip"]) == (1, 1, 3)
    (error,) = answer["errors"]
    assert (error["line"], error["error"]) == (1, "conflict")
    assert await gateway.ticks() == [b'{"t":1}', b'{"t":2,"x":1}', b'{"t":3}']


async def test_a_t_that_was_skipped_is_out_of_order(gateway: Serving) -> None:
    await gateway.post(b'{"t":1}\n{"t":5}\n', Tick_Run="one")
    answer = await gateway.post(b'{"t":3}\n{"t":0}\n{"t":6}\n', Tick_Run="one", status=422)
    assert [(e["line"], e["error"]) for e in answer["errors"]] == [(1, "out_of_order"), (2, "out_of_order")]
    assert (answer["accepted"], answer["refused"], answer["tip"]) == (1, 2, 6)


async def test_without_a_name_falling_to_the_first_t_is_a_new_run(gateway: Serving) -> None:
    first = (await gateway.post(b'{"t":10}\n{"t":12}\n'))["run"]
    again = await gateway.post(b'{"t":11}\n{"t":12}\n', status=422)  # inside the run: no new one
    assert (again["run"], again["duplicates"], again["errors"][0]["error"]) == (first, 1, "out_of_order")
    second = await gateway.post(b'{"t":10}\n{"t":11}\n')
    assert second["run"] != first and second["accepted"] == 2
    assert await gateway.ticks(first) == [b'{"t":10}', b'{"t":12}']
    assert await gateway.ticks() == [b'{"t":10}', b'{"t":11}']


async def test_an_ended_run_takes_no_more(gateway: Serving) -> None:
    await gateway.post(b'{"t":1}\n{"t":2}', Tick_Run="one")
    assert await gateway.post(b"", path="/runs/one/end") == {"run": "one", "ended": True, "tip": 2}
    assert await gateway.post(b"", path="/runs/one/end") == {"run": "one", "ended": True, "tip": 2}
    answer = await gateway.post(b'{"t":2}\n{"t":3}\n{"t":4}\n', Tick_Run="one", status=409)
    assert answer["error"] == "run_closed"
    assert (answer["run"], answer["duplicates"], answer["refused"], answer["tip"]) == ("one", 1, 2, 2)
    mixed = await gateway.post(b'{"t":3}\nnonsense\n', Tick_Run="one", status=422)
    assert [e["error"] for e in mixed["errors"]] == ["run_closed", "malformed"]
    unnamed = await gateway.post(b'{"t":3}')  # who names no run begins the next one
    assert unnamed["run"] != "one" and unnamed["accepted"] == 1


async def test_the_readers_of_an_ended_run_get_its_end(gateway: Serving) -> None:
    await gateway.post(b'{"t":1}', Tick_Run="one")
    async with gateway.client.get("/ndjson?run=one") as stream:
        assert json.loads(await stream.content.readline()) == {"t": 1}
        await gateway.post(b"", path="/runs/one/end")
        assert json.loads(await stream.content.readline()) == {"notice": "end", "reason": "run", "position": "one:1"}
        assert await stream.content.read() == b""


async def test_ending_a_run_that_is_not_there(gateway: Serving) -> None:
    assert (await gateway.post(b"", path="/runs/one/end", status=404))["error"] == "not_found"
    assert (await gateway.post(b"", path="/runs/one/end?x=1", status=400))["parameter"] == "x"


@pytest.mark.parametrize(("line", "reason"), REFUSED, ids=[repr(line[:30]) for line, _ in REFUSED])
async def test_a_refused_line_costs_itself_alone(line: bytes, reason: str) -> None:
    async with serving(max_tick=1500) as gateway:
        body = b'{"t":1,"ok":true}\n' + line + b'\n{"t":2}\n'
        status = 413 if reason == "at most" else 422
        answer = await gateway.post(body, status=status, Content_Type="application/x-ndjson")
        (error,) = answer["errors"]
        assert error["line"] == 2 and reason in error["reason"], error
        assert (answer["accepted"], answer["refused"], answer["tip"]) == (2, 1, 2)
        assert str(error["reason"]) in answer["message"]
        assert await gateway.ticks() == [b'{"t":1,"ok":true}', b'{"t":2}']
        if not line.startswith((b"\xff", b'{"t":1,"x":"\xff')):  # in an array, the element is named the same way
            array = b"[" + b",".join([b'{"t":3}', line, b'{"t":4}']) + b"]"
            if answer["errors"][0]["error"] == "malformed" and reason == "not valid JSON":
                return  # there, it breaks the body as a whole
            inside = await gateway.post(array, status=status)
            assert inside["errors"][0]["line"] == 2 and inside["accepted"] == 2


async def test_the_first_ten_errors_are_told_and_all_are_counted(gateway: Serving) -> None:
    lines = [b'{"t":%d}' % t if t % 2 else b"bad %d" % t for t in range(1, 61)]
    answer = await gateway.post(b"\n".join(lines), status=422)
    assert (answer["accepted"], answer["refused"], len(answer["errors"])) == (30, 30, http.MAX_ERRORS)
    assert [error["line"] for error in answer["errors"]] == list(range(2, 21, 2))


async def test_json_that_breaks_in_its_middle_keeps_what_came_before(gateway: Serving) -> None:
    answer = await gateway.post(b'[{"t":1},{"t":2},{"t":3', status=422)
    assert (answer["accepted"], answer["refused"]) == (2, 1)
    assert answer["errors"][0]["line"] == 3 and "not valid JSON" in answer["errors"][0]["reason"]
    assert await gateway.ticks() == [b'{"t":1}', b'{"t":2}']


@pytest.mark.parametrize("body", [b"", b" \n ", b"[", b'{"t":1', b'\xff{"t":1}'])
async def test_json_that_is_none(gateway: Serving, body: bytes) -> None:
    answer = await gateway.post(body, status=400, Content_Type="application/json")
    assert answer["error"] == "bad_body" and answer["message"]
    assert (await gateway.get("/meta"))["run"] is None


async def test_an_empty_body_is_refused_and_an_empty_array_is_not(gateway: Serving) -> None:
    assert "empty" in (await gateway.post(b"", status=400))["message"]
    assert (await gateway.post(b"[]"))["accepted"] == 0


async def test_a_tick_that_is_too_large(gateway: Serving) -> None:
    large = b'{"t":2,"x":"%s"}' % (b"x" * 1000)
    answer = await gateway.post(b'{"t":1}\n' + large + b'\n{"t":3}\n', status=413)
    assert (answer["error"], answer["accepted"], answer["tip"]) == ("too_big", 2, 3)
    assert (await gateway.post(large, status=413, Content_Type="application/json"))["refused"] == 1
    just = b'{"t":4,"x":"%s"}' % (b"x" * (1000 - 14))
    assert len(just) == 1000
    assert (await gateway.post(b"\n\n \t" + just + b"\r\n"))["accepted"] == 1


async def test_a_json_body_that_is_too_large(gateway: Serving) -> None:
    array = b"[" + b",".join(b'{"t":%d}' % t for t in range(1000)) + b"]"
    answer = await gateway.post(array, status=413)
    assert answer["error"] == "too_big" and "max_body" in answer["message"]
    lines = array[1:-1].replace(b",", b"\n")
    assert (await gateway.post(lines))["accepted"] == 1000  # NDJSON has no end


@pytest.mark.parametrize(
    ("path", "headers", "parameter"),
    [
        ("/publish?run=", {}, "run"),
        ("/publish?run=a%20b", {}, "run"),
        ("/publish?run=%ff", {}, "run"),
        ("/publish?run=" + "a" * 65, {}, "run"),
        ("/publish?run=a&run=b", {}, "run"),
        ("/publish?run=a", {"Tick_Run": "b"}, "run"),
        ("/publish", {"Tick_Run": "-a"}, "run"),
        ("/publish", {"Tick_Run": "é"}, "run"),
        ("/publish?rum=a", {}, "rum"),
        ("/publish?from_t=1", {}, "from_t"),
    ],
)
async def test_bad_parameters(gateway: Serving, path: str, headers: dict[str, str], parameter: str) -> None:
    answer = await gateway.post(b'{"t":1}', path=path, status=400, **headers)
    assert answer["parameter"] == parameter and answer["message"]
    assert (await gateway.get("/meta"))["run"] is None


@pytest.mark.parametrize("encoding", ["deflate", "br", "compress", "gzip, gzip", "zstd, gzip"])
async def test_a_content_encoding_that_is_not_taken(gateway: Serving, encoding: str) -> None:
    async with gateway.client.post("/publish", data=b'{"t":1}', headers={"Content-Encoding": encoding}) as response:
        assert response.status == 415
        answer = await response.json()
        assert (
            answer["error"] == "bad_encoding" and "gzip or zstd" in answer["message"] and encoding in answer["message"]
        )
        assert response.headers["Accept-Encoding"] == "gzip, zstd"
    assert (await gateway.get("/meta"))["run"] is None


async def test_publishing_is_not_open_to_other_origins(gateway: Serving) -> None:
    async with gateway.client.post("/publish", data=b'{"t":1}') as response:
        assert "Access-Control-Allow-Origin" not in response.headers
    async with gateway.client.options("/publish") as response:
        assert response.status == 405


async def test_many_publishers_of_one_run(gateway: Serving) -> None:
    """Each tick is taken once, whoever brings it."""
    ticks = [b'{"t":%d}\n' % t for t in range(200)]
    answers = await asyncio.gather(*(gateway.post(b"".join(ticks), Tick_Run="one") for _ in range(8)))
    assert sum(answer["accepted"] for answer in answers) == 200
    assert all(answer["accepted"] + answer["duplicates"] == 200 for answer in answers)
    assert await gateway.ticks("one") == [tick.strip() for tick in ticks]

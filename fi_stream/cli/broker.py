"""`fi-stream broker`: a broker for development, in the foreground."""

from __future__ import annotations

from typing import Annotated

import typer


def broker(
    *,
    apache: Annotated[
        bool, typer.Option("--apache", help="Apache Kafka (needs java and mvn), not the embedded.")
    ] = False,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes any free port.")] = 0,
    partitions: Annotated[
        int | None, typer.Option(min=1, help="Of the embedded broker's shared topics.")
    ] = None,
) -> None:
    """Run a broker on this machine until Ctrl+C; its first line is its address.

    The embedded broker needs nothing installed, has the catalogue's topics, keeps all in memory.
    Apache Kafka starts empty: run `fi-stream topics apply` on it.
    """
    import signal

    from fi_stream.errors import ConfigError
    from fi_stream.roles.logs import configure_logs
    from fi_stream.transport.apache import ApacheBroker
    from fi_stream.transport.embedded import EmbeddedBroker

    if apache and partitions is not None:
        raise ConfigError(
            "--partitions is for the embedded broker: Apache Kafka's topics come from "
            "`fi-stream topics apply`."
        )
    configure_logs()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    try:
        with ApacheBroker(port) if apache else EmbeddedBroker(partitions, port) as running:
            print(f"bootstrap.servers = {running.bootstrap}", flush=True)
            while True:
                signal.pause()
    except KeyboardInterrupt:
        print("stopped")


def _stop(_number: int, _frame: object) -> None:
    import signal

    # One is enough: a second must not cut the clean stop short.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt

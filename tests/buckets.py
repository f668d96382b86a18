"""An S3 server on this machine, for tests: nothing leaves it."""

import importlib.util
import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from pyarrow import fs


@contextmanager
def served_bucket() -> Iterator[str]:
    """A new bucket on moto's server, as a URI; the environment leads there until the end. Skips the test, saying so,
    where moto is not installed."""
    if importlib.util.find_spec("moto") is None or importlib.util.find_spec("flask") is None:
        pytest.skip("moto[server] is not installed: no S3 server to try")
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    settings = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setenv(name, value)
        bucket = f"faces-{os.getpid()}-{port}"
        store = fs.S3FileSystem(endpoint_override=f"{host}:{port}", scheme="http", allow_bucket_creation=True)
        store.create_dir(bucket)
        yield f"s3://{bucket}"
    server.stop()


def put(uri: str, contents: dict[str, bytes]) -> None:
    """Write objects below ``uri``, by key."""
    from casfne import sources

    for name, content in contents.items():
        filesystem, path = sources.open_filesystem(sources.join(uri, name))
        with filesystem.open_output_stream(path, compression=None) as stream:
            stream.write(content)

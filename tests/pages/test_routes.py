"""The server's own routes: what they give, and that no name climbs out of a run's folder."""

from __future__ import annotations

import io

import pytest
from PIL import Image
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.testclient import TestClient


@pytest.fixture(scope="module")
def client() -> TestClient:
    """The routes as the server mounts them."""
    from fovea.app import ROUTES, NoClimbing

    return TestClient(Starlette(routes=ROUTES, middleware=[Middleware(NoClimbing)]))


def test_artifacts_are_given_inertly(client: TestClient, occlusion_run: str) -> None:
    for name, kind in {"preview.png": "image/png", "run.json": "application/json", "arrays.npz": ""}.items():
        answer = client.get(f"/artifacts/{occlusion_run}/{name}")
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith(kind)
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in answer.headers["content-security-policy"]


@pytest.mark.parametrize(
    "name",
    [
        "../run.json",
        "..%2frun.json",
        "%2e%2e/%2e%2e/index.sqlite",
        "%252e%252e%252findex.sqlite",
        "..%5c..%5cindex.sqlite",
        "images/%2e%2e/run.json",
        "images/..;/run.json",
        "/etc/passwd",
        "%2fetc%2fpasswd",
        "images/%00.png",
        "images/%c0%ae%c0%ae/run.json",
        "inputs",
        "nothing.png",
    ],
)
def test_no_name_climbs_out(name: str, client: TestClient, occlusion_run: str) -> None:
    answer = client.get(f"/artifacts/{occlusion_run}/{name}")
    assert answer.status_code == 404
    assert answer.text.count("\n") <= 1
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("run_id", ["..", "%2e%2e", "nothing", "20260101-000000-occlusion-ffffff"])
def test_no_run_id_climbs_out(run_id: str, client: TestClient) -> None:
    assert client.get(f"/artifacts/{run_id}/run.json").status_code == 404
    assert client.get(f"/exports/{run_id}.zip").status_code == 404


def test_photos_are_given_by_content_only(client: TestClient) -> None:
    answer = client.get("/photos/sample:cat?size=64")
    assert Image.open(io.BytesIO(answer.content)).size == (64, 64)
    for reference in ("sample:nobody", "%2fetc%2fpasswd", "photo:12", "item:sample/x", "photo:" + "0" * 64):
        assert client.get(f"/photos/{reference}").status_code == 404
    for size in ("0", "99999", "x", "-5"):
        assert client.get(f"/photos/sample:cat?size={size}").status_code == 404


def test_exports_are_downloads(client: TestClient, occlusion_run: str) -> None:
    report = client.get(f"/exports/{occlusion_run}.html")
    assert report.status_code == 200
    assert "attachment" in report.headers["content-disposition"]
    assert report.text.lstrip().lower().startswith("<!doctype html>")
    archive = client.get(f"/exports/{occlusion_run}.zip")
    assert archive.content[:2] == b"PK"
    assert client.get(f"/exports/{occlusion_run}.exe").status_code == 404

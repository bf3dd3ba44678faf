"""Up to when everything was received: only a proof moves it, and it never goes back."""

from __future__ import annotations

from backplane_core._inbound.watermark import Watermark


def test_only_a_proof_moves_it_and_it_never_goes_back() -> None:
    watermark = Watermark(0.0)
    watermark.live(1.0)
    assert watermark.at == 0.0
    watermark.advance(2.0)
    watermark.advance(1.5)
    assert watermark.at == 2.0
    watermark.reported(4.0)
    watermark.reported(3.0)
    assert watermark.at == 4.0


def test_nothing_proves_more_than_a_link_is_sure_of() -> None:
    watermark = Watermark(0.0)
    watermark.live(1.0)
    watermark.ceiling = 3.0
    watermark.advance(5.0)
    assert watermark.at == 3.0


def test_a_pod_is_deaf_since_the_last_sign_of_life_until_every_channel_is_heard() -> None:
    watermark = Watermark(0.0)
    assert watermark.deaf_since == 0.0
    watermark.live(1.0)
    assert watermark.deaf_since is None
    watermark.advance(2.0)
    watermark.heard_at = 9.0  # read now, after the loop was blocked for seconds; the link died behind it at 3
    watermark.lost("cut")
    assert (watermark.deaf_since, watermark.at, watermark.reason) == (9.0, 2.0, "cut")
    watermark.lost("cut again")
    assert (watermark.deaf_since, watermark.reason) == (9.0, "cut again")
    watermark.live(10.0)
    assert watermark.deaf_since is None

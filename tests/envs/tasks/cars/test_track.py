"""The race track: places along it, its mirror image, its outcomes, and Gymnasium's contract."""

from __future__ import annotations

import pytest
import torch

from factory.envs.core.check import check_vector_env
from factory.envs.core.graph_safety import check_graph_safety
from factory.envs.tasks.cars.closed_tracks import NUM_POINTS, ClosedTracks, draw_tracks
from factory.envs.tasks.cars.track import CarTrack, track_mirrors
from factory.envs.tasks.cars.track_config import CarTrackConfig
from factory.envs.tasks.cars.track_pursuit import PurePursuit

NUM_TRACKS = 4


def make(**keywords: object) -> CarTrack:
    """Return a small environment on few tracks."""
    return CarTrack(**({"num_envs": 8, "seed": 0, "num_tracks": NUM_TRACKS} | keywords))


@pytest.fixture(scope="module")
def tracks() -> ClosedTracks:
    """Return a few tracks of the training set."""
    return draw_tracks("train", NUM_TRACKS)


def test_conforms_and_is_graph_safe() -> None:
    """Gymnasium's contract holds in all autoreset modes, and no step makes the host wait."""
    check_vector_env(lambda **kw: make(**kw))
    check_graph_safety(make(num_envs=2, max_episode_steps=2))


def test_tracks_close_and_have_the_curvature_that_they_claim(tracks: ClosedTracks) -> None:
    """Points lie at equal distances all around, tangents follow them, and turns add up to one circle."""
    lines = tracks.line.view(NUM_TRACKS, NUM_POINTS, 4)
    steps = lines.roll(-1, 1)[..., :2] - lines[..., :2]
    spacing = (tracks.length / NUM_POINTS)[:, None]
    assert torch.allclose(steps.norm(dim=-1), spacing.expand(-1, NUM_POINTS), rtol=0.02)
    assert ((steps / spacing[..., None] * lines[..., 2:]).sum(-1) > 0.99).all()
    turned = (tracks.curvature.view(NUM_TRACKS, -1) * spacing).sum(-1).abs()
    assert torch.allclose(turned, torch.full_like(turned, 2.0 * torch.pi), atol=0.02)


def test_held_out_tracks_are_others() -> None:
    """Evaluations play on 64 tracks of which training has none."""
    assert CarTrackConfig(num_tracks=3).eval_kwargs()["split"] == "test"
    train = draw_tracks("train", NUM_TRACKS).length
    assert not torch.isin(draw_tracks("test", NUM_TRACKS).length, train).any()


def test_place_beside_the_line_is_found(tracks: ClosedTracks) -> None:
    """A point half a metre to the left of a line is located from a guess 0.1 m off, across the start too."""
    track = torch.arange(NUM_TRACKS).repeat_interleave(3)
    along = torch.tensor([0.05, 20.0, 54.0]).repeat(NUM_TRACKS)
    rows = tracks.rows(track, along)
    x, y, forward_x, forward_y = tracks.line[rows].unbind(-1)
    exact = (rows - track * NUM_POINTS) * (tracks.length / NUM_POINTS)[track]
    place = tracks.locate(track, x - 0.5 * forward_y, y + 0.5 * forward_x, guess=along - 0.1)
    length = tracks.length[track]
    off = (place.along - exact + 0.5 * length).remainder(length) - 0.5 * length
    assert off.abs().max() < 0.02
    assert torch.allclose(place.aside, torch.full_like(place.aside, 0.5), atol=5e-3)


def test_mirror_image_drives_the_mirrored_track() -> None:
    """Mirrored states, actions and tracks give mirrored observations, equal rewards and equal ends."""
    env = make(num_envs=64)
    twin = make(num_envs=64)
    env.reset(seed=3)
    twin.load_state_dict(env.state_dict())
    twin.tracks = env.tracks.mirrored()
    y, yaw, lateral, yaw_rate, steering, across = (1, 2, 4, 5, 6, 8)
    twin.car[:, [y, yaw, lateral, yaw_rate, steering, across]] *= -1.0
    twin.line *= torch.tensor([1.0, -1.0, 1.0, -1.0])
    twin.drawn[:, 3] *= -1.0
    mirrors = track_mirrors(env.device)
    generator = torch.Generator().manual_seed(0)
    for _ in range(8):
        action = 2.0 * torch.rand(64, 2, generator=generator) - 1.0
        obs, reward, ended, _, _ = env.step(action)
        seen, twin_reward, twin_ended, _, _ = twin.step(mirrors["action"](action))
        assert torch.equal(ended, twin_ended)
        # The next episodes of both start alike, and are no mirror images.
        same = ~ended
        assert torch.allclose(mirrors["critic"](obs["critic"])[same], seen["critic"][same], atol=2e-3)
        assert torch.allclose(reward, twin_reward, atol=1e-3)
        if ended.any():
            break
    assert mirrors["policy"].index.numel() == obs["policy"].shape[-1]


def test_pursuit_drives_clean_laps_and_leaving_the_track_ends_an_episode() -> None:
    """The baseline finishes a lap in 10 to 20 s; full throttle straight on ends off the track."""
    env = make(num_envs=16, split="test")
    baseline = PurePursuit(env, friction_share=0.5)
    state = baseline.initial_state(16)
    env.reset(seed=1)
    laps = torch.zeros(16, dtype=torch.bool)
    playing = ~laps
    for _ in range(400):
        action, state = baseline.act_deterministic({}, state)
        _, _, terminated, _, info = env.step(action)
        laps |= info["success"] & playing
        playing &= ~terminated
    assert laps.sum() >= 15
    assert (env.last_lap_s[laps] > 8.0).all()

    env.reset(seed=1)
    straight = torch.tensor([[0.0, 1.0]]).expand(16, 2)
    left = torch.zeros(16, dtype=torch.bool)
    for _ in range(60):
        _, reward, terminated, _, info = env.step(straight)
        left |= terminated & ~info["success"]
        assert (reward[terminated] < -5.0).all()
    assert left.all()


def test_resumes_exactly() -> None:
    """After `load_state_dict` another environment repeats the steps bit for bit."""
    env = make()
    twin = make(seed=5)
    env.reset(seed=2)
    for _ in range(5):
        env.step(torch.rand(8, 2))
    twin.load_state_dict(env.state_dict())
    for action in torch.rand(30, 8, 2):
        first = env.step(action)
        second = twin.step(action)
        assert torch.equal(first[0]["policy"], second[0]["policy"]) and torch.equal(first[1], second[1])


def test_wrong_settings_are_answered_in_one_line() -> None:
    """Key, value and remedy are named."""
    with pytest.raises(ValueError, match=r"task\.split=both: choose one of train, test"):
        CarTrackConfig(split="both")
    with pytest.raises(ValueError, match=r"task\.randomization\.latency_s=0\.5"):
        CarTrackConfig(randomization={"latency_s": (0.0, 0.5)})


def test_pictures_show_every_world() -> None:
    """A snapshot holds a scene for each world, and a frame is drawn from it."""
    env = make(num_envs=2)
    env.reset(seed=0)
    renderer = env.open_renderer(width=320, height=180)
    (frame,) = renderer.frames([env.snapshot()])
    assert frame.shape == (180, 320, 3) and frame.std() > 20

"""Where the process runs: processor, memory, limits, GPU, container, virtual machine."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch

from factory.diagnosis.finding import Finding, Status
from factory.energy.cgroup import Cgroup, allocated_cores
from factory.runtime import device

_NVIDIA_VENDOR = "0x10de"
_CONTAINER_MARKS = {"docker": "Docker", "kubepods": "Kubernetes", "containerd": "containerd", "lxc": "LXC"}


@dataclass(frozen=True, slots=True, kw_only=True)
class HostEnvironment:
    """Surroundings of the process, which decide which remedy can help."""

    system: str = "Linux"
    container: str = ""
    """Kind of container, empty if none was recognised."""
    is_virtual: bool = False
    """Whether a hypervisor lies between the system and the hardware."""
    nvidia_boards: int = 0
    """NVIDIA display and compute boards on the PCI bus."""
    nvidia_driver: str = ""
    """Version of the kernel driver, empty if it is not loaded."""
    has_nvidia_node: bool = False
    """Whether a /dev/nvidia<N> is there."""

    @property
    def words(self) -> str:
        """Return the host in plain words, fit for `in ...`."""
        machine = "a virtual machine" if self.is_virtual else "a machine of its own"
        return f"a container ({self.container}) on {machine}" if self.container else machine


def find_host(root: Path = Path("/"), *, environ: Mapping[str, str] | None = None) -> HostEnvironment:
    """Look around; `root` is where /proc, /sys and /dev hang."""
    cpu_flags = _text(root / "proc/cpuinfo")
    version = _text(root / "proc/driver/nvidia/version")
    return HostEnvironment(
        system=platform.system(),
        container=_container(root, os.environ if environ is None else environ),
        is_virtual=" hypervisor" in cpu_flags or (root / "sys/hypervisor/type").exists(),
        nvidia_boards=_nvidia_boards(root),
        nvidia_driver=version.partition("Module")[2].split()[0] if "Module" in version else "",
        has_nvidia_node=any((root / "dev").glob("nvidia[0-9]*")),
    )


def nvidia_gap(host: HostEnvironment) -> tuple[str, str]:
    """Return why no NVIDIA GPU can be used, and what would change that, from the outside inwards."""
    install = "install NVIDIA's driver, then reboot (Ubuntu: sudo ubuntu-drivers install)"
    toolkit = "start the container with --gpus all (needs the NVIDIA Container Toolkit on the host)"
    if host.container and not host.has_nvidia_node and (host.nvidia_boards or host.nvidia_driver):
        return "the machine has an NVIDIA GPU, but this container was not given it", toolkit
    if host.nvidia_boards and not host.nvidia_driver:
        return "there is an NVIDIA GPU, but no driver is loaded", install
    if not (host.nvidia_boards or host.nvidia_driver or host.has_nvidia_node):
        remedy = f"nothing to do if the host has none; if it has one, {toolkit}" if host.container else ""
        return "no NVIDIA GPU is visible here", remedy or "nothing to do unless you add one"
    return "", ""


def examine(host: HostEnvironment) -> list[Finding]:
    """Return what the machine is."""
    cgroup = Cgroup()
    where = Finding(
        section="machine", name="host", status=Status.OK, text=f"{platform.platform()}, in {host.words}"
    )
    return [where, _processor(cgroup), _load(), _memory(cgroup), _gpu(host)]


def _processor(cgroup: Cgroup) -> Finding:
    present, threads, usable = os.cpu_count() or 1, device.available_cpus(), allocated_cores(cgroup)
    text = f"{device.cpu_name()}: {usable:g} of {present} hardware threads may be used"
    if cgroup.quota_cores() == usable:
        text += f" (a quota of the control group, as docker's --cpus sets it); training takes {threads}"
    facts = {"hardware_threads": present, "available": threads, "allocated": usable}
    return Finding(section="machine", name="processor", status=Status.OK, text=text, facts=facts)


def _load() -> Finding:
    if not hasattr(os, "getloadavg"):
        return Finding(section="machine", name="load", status=Status.OK, text="this system does not tell")
    load, cpus = os.getloadavg()[0], device.available_cpus()
    is_busy = load > 0.5 * cpus
    return Finding(
        section="machine",
        name="load",
        status=Status.LIMITED if is_busy else Status.OK,
        text=f"{load:.1f} threads wanted to run, on average over the last minute, on {cpus} CPUs",
        remedy="timings and joules of now include other work: end it before you compare figures"
        if is_busy
        else "",
        facts={"load_average_1min": load},
    )


def _memory(cgroup: Cgroup) -> Finding:
    memory, limit_bytes = psutil.virtual_memory(), cgroup.memory_limit_bytes()
    bound = f", limited to {limit_bytes * 1e-9:.1f} GB by the control group" if limit_bytes else ""
    return Finding(
        section="machine",
        name="memory",
        status=Status.OK,
        text=f"{memory.total * 1e-9:.1f} GB, {memory.available * 1e-9:.1f} GB of them free{bound}",
        facts={"total_bytes": memory.total, "available_bytes": memory.available, "limit_bytes": limit_bytes},
    )


def _gpu(host: HostEnvironment) -> Finding:
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
        text = f"{', '.join(names)}; driver {host.nvidia_driver or 'of unknown version'}"
        facts = {"names": names, "driver": host.nvidia_driver}
        return Finding(section="machine", name="GPU", status=Status.OK, text=text, facts=facts)
    why, remedy = nvidia_gap(host)
    if why:
        return Finding(section="machine", name="GPU", status=Status.MISSING, text=why, remedy=remedy)
    text = f"NVIDIA driver {host.nvidia_driver} is there, but torch {torch.__version__} cannot use it"
    remedy = (
        "install the build of torch for CUDA that fits this driver"
        if torch.version.cuda is None
        else (
            "check that nvidia-smi works, that CUDA_VISIBLE_DEVICES names a device, and that the driver is "
            "new enough"
        )
    )
    return Finding(section="machine", name="GPU", status=Status.MISSING, text=text, remedy=remedy)


def _container(root: Path, environ: Mapping[str, str]) -> str:
    if "KUBERNETES_SERVICE_HOST" in environ:
        return "Kubernetes"
    if (root / ".dockerenv").exists():
        return "Docker"
    if (root / "run/.containerenv").exists():
        return "Podman"
    groups = _text(root / "proc/1/cgroup")
    return next(
        (name for mark, name in _CONTAINER_MARKS.items() if mark in groups), environ.get("container", "")
    )


def _nvidia_boards(root: Path) -> int:
    folders = (root / "sys/bus/pci/devices").glob("*")
    # Class 0x03: display controllers, which data centre GPUs are too (3D controller).
    return sum(
        _text(folder / "vendor").strip() == _NVIDIA_VENDOR and _text(folder / "class").startswith("0x03")
        for folder in folders
    )


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""

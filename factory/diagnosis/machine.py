"""Surroundings of the process: processor, memory, limits, GPU, container, virtual machine."""

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

# PCI vendor id.
_NVIDIA_VENDOR = "0x10de"
# Words in the control group's path of process 1, and the container engine that puts them there.
_CONTAINER_MARKS = {"docker": "Docker", "kubepods": "Kubernetes", "containerd": "containerd", "lxc": "LXC"}


@dataclass(frozen=True, slots=True, kw_only=True)
class HostEnvironment:
    """Surroundings of the process, which decide which remedy can help."""

    system: str = "Linux"
    container: str = ""
    """Kind of container, empty if none was recognised."""
    is_virtual: bool = False
    """True if a hypervisor lies between the system and the hardware."""
    nvidia_boards: int = 0
    """NVIDIA display and compute boards on the PCI bus."""
    nvidia_driver: str = ""
    """Version of the kernel driver, empty if it is not loaded."""
    has_nvidia_node: bool = False
    """True if there is a /dev/nvidia<N>."""

    @property
    def words(self) -> str:
        """Return the host in plain words that follow `in`."""
        machine = "a machine of its own"
        if self.is_virtual:
            machine = "a virtual machine"
        if self.container:
            return f"a container ({self.container}) on {machine}"
        return machine


def find_host(root: Path = Path("/"), *, environ: Mapping[str, str] | None = None) -> HostEnvironment:
    """Describe the surroundings of this process.

    Args:
        root: Folder that contains /proc, /sys and /dev.
        environ: Environment variables; the process's own if None.
    """
    if environ is None:
        environ = os.environ
    # Hypervisors set the CPU flag `hypervisor`; Xen also has a folder in /sys.
    cpu_flags = _text(root / "proc/cpuinfo")
    is_virtual = " hypervisor" in cpu_flags or (root / "sys/hypervisor/type").exists()
    # "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  ..."
    version = _text(root / "proc/driver/nvidia/version")
    driver = ""
    if "Module" in version:
        driver = version.partition("Module")[2].split()[0]
    return HostEnvironment(
        system=platform.system(),
        container=_container(root, environ),
        is_virtual=is_virtual,
        nvidia_boards=_nvidia_boards(root),
        nvidia_driver=driver,
        has_nvidia_node=any((root / "dev").glob("nvidia[0-9]*")),
    )


def nvidia_gap(host: HostEnvironment) -> tuple[str, str]:
    """Return why no NVIDIA GPU can be used, and the remedy; both are empty if one can be used."""
    # From the outside inwards: the board, its driver on the host, then what the container was given.
    install = "install NVIDIA's driver, then reboot (Ubuntu: sudo ubuntu-drivers install)"
    toolkit = "start the container with --gpus all (needs the NVIDIA Container Toolkit on the host)"
    # /sys and /proc show the host's hardware inside a container; only the device nodes are its own.
    if host.container and not host.has_nvidia_node and (host.nvidia_boards or host.nvidia_driver):
        return "the machine has an NVIDIA GPU, but this container was not given it", toolkit
    if host.nvidia_boards and not host.nvidia_driver:
        return "there is an NVIDIA GPU, but no driver is loaded", install
    if not (host.nvidia_boards or host.nvidia_driver or host.has_nvidia_node):
        remedy = "nothing to do unless you add one"
        if host.container:
            remedy = f"nothing to do if the host has none; if it has one, {toolkit}"
        return "no NVIDIA GPU is visible here", remedy
    return "", ""


def examine(host: HostEnvironment) -> list[Finding]:
    """Return the findings about the machine."""
    cgroup = Cgroup()
    where = Finding(
        section="machine", name="host", status=Status.OK, text=f"{platform.platform()}, in {host.words}"
    )
    return [where, _processor(cgroup), _load(), _memory(cgroup), _gpu(host)]


def _processor(cgroup: Cgroup) -> Finding:
    # A quota may be a fraction of a CPU, while the number of threads is whole.
    present = os.cpu_count() or 1
    threads = device.available_cpus()
    usable = allocated_cores(cgroup)
    text = f"{device.cpu_name()}: {usable:g} of {present} hardware threads may be used"
    if cgroup.quota_cores() == usable:
        text += f" (a quota of the control group, as docker's --cpus sets it); training takes {threads}"
    facts = {"hardware_threads": present, "available": threads, "allocated": usable}
    return Finding(section="machine", name="processor", status=Status.OK, text=text, facts=facts)


def _load() -> Finding:
    if not hasattr(os, "getloadavg"):
        text = "this system does not report its load"
        return Finding(section="machine", name="load", status=Status.OK, text=text)
    load = os.getloadavg()[0]
    cpus = device.available_cpus()
    status = Status.OK
    remedy = ""
    # With half of the CPUs taken by others, a run on all of them waits for its slowest thread.
    if load > 0.5 * cpus:
        status = Status.LIMITED
        remedy = "timings include other work, and joules are shared: stop it before you compare metrics"
    return Finding(
        section="machine",
        name="load",
        status=status,
        text=f"{load:.1f} threads were ready to run, on average over the last minute, on {cpus} CPUs",
        remedy=remedy,
        facts={"load_average_1min": load},
    )


def _memory(cgroup: Cgroup) -> Finding:
    memory = psutil.virtual_memory()
    limit_bytes = cgroup.memory_limit_bytes()
    text = f"{memory.total * 1e-9:.1f} GB, {memory.available * 1e-9:.1f} GB of them free"
    # A container sees the memory of its host, but may only use as much as its limit.
    if limit_bytes:
        text += f", limited to {limit_bytes * 1e-9:.1f} GB by the control group"
    return Finding(
        section="machine",
        name="memory",
        status=Status.OK,
        text=text,
        facts={"total_bytes": memory.total, "available_bytes": memory.available, "limit_bytes": limit_bytes},
    )


def _gpu(host: HostEnvironment) -> Finding:
    # torch decides: a driver that torch cannot use does not help a run.
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
        text = f"{', '.join(names)}; driver {host.nvidia_driver or 'of unknown version'}"
        facts = {"names": names, "driver": host.nvidia_driver}
        return Finding(section="machine", name="GPU", status=Status.OK, text=text, facts=facts)
    why, remedy = nvidia_gap(host)
    if why:
        return Finding(section="machine", name="GPU", status=Status.MISSING, text=why, remedy=remedy)
    text = f"NVIDIA driver {host.nvidia_driver} is loaded, but torch {torch.__version__} cannot use it"
    # A build of torch for the CPU has no CUDA version.
    if torch.version.cuda is None:
        remedy = "install the build of torch for CUDA that fits this driver"
    else:
        remedy = (
            "check that nvidia-smi works, that CUDA_VISIBLE_DEVICES names a device, and that the driver is "
            "new enough"
        )
    return Finding(section="machine", name="GPU", status=Status.MISSING, text=text, remedy=remedy)


def _container(root: Path, environ: Mapping[str, str]) -> str:
    # The surest marks first: variables and files that an engine creates, then the control group's name.
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

"""Vulkan for tests without a GPU (Mesa's software rasteriser stands in for one), and what of its memory ggml allocates."""
from conftest import BUILD, ROOT

ENVIRONMENT = {"VK_DRIVER_FILES": str(ROOT / ".deps/lvp_icd.json"), "GGML_VK_VISIBLE_DEVICES": "0", "GGML_NO_BACKTRACE": "1", "IMAGINED_DEVICE": "vulkan"}


class DeviceBytes:
    """Counted by a preloaded library (count_buffers.c) where ggml allocates buffers, not by the program's own ledger: `environment` is for one
    process that computes, the server's engine for example."""

    def __init__(self, folder):
        self.file = folder / "device_bytes"
        self.environment = {**ENVIRONMENT, "LD_PRELOAD": str(BUILD / "tests/http/libcount_buffers.so"), "COUNT_BUFFERS_FILE": str(self.file)}

    def peak(self):
        return int(self.file.read_text().split()[0])

    def now(self):
        return int(self.file.read_text().split()[1])

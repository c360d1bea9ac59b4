# ruff: noqa: F821 (MicroPython's: docs.micropython.org/en/latest/reference/manifest.html)
"""What is the same on every board, for an image that has it frozen in:

    make BOARD=RPI_PICO FROZEN_MANIFEST=.../board_manifest.py

where ``board_manifest.py`` includes the board's own manifest and this one. Nothing needs such an
image: ``make flash`` puts the same modules on the file system, compiled.

Not in here, because they are a board's: ``board.py`` and its modules, ``board_data.py``, and
``boot.py`` and ``main.py``, which start it all. They stay on the file system or in ROMFS. A module
on the file system's root goes before a frozen one of the same name.
"""

metadata(
    description="Cisterna, a model of an intrathecal drug pump. Not a medical device.",
    version="0.1.0",
    license="MIT",
    author="The Cisterna authors",
)

package("pump_wire", opt=2)
package("pump", opt=2)
package("drivers", opt=2)

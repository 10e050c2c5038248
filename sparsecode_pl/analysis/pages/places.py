"""Where the page of each atom lies."""

from dataclasses import dataclass

#: Up to here, each atom has a file of its own.
OWN_FILE = 4096
#: Atoms in a file where there are more.
BATCH = 64


@dataclass(frozen=True)
class Places:
    """Files of the atoms' pages, relative to the folder of their subject's index.

    Attributes:
        num_atoms: size of the dictionary.
    """

    num_atoms: int

    @property
    def size(self) -> int:
        """Atoms in one file."""
        return 1 if self.num_atoms <= OWN_FILE else BATCH

    @property
    def width(self) -> int:
        """Digits in the names of the files."""
        return max(4, len(str(self.num_atoms - 1)))

    def files(self) -> list[range]:
        """The atoms of each file, in order."""
        return [range(start, min(start + self.size, self.num_atoms)) for start in range(0, self.num_atoms, self.size)]

    def file(self, index: int) -> str:
        """Name of the file that shows an atom.

        Example:
            >>> Places(3072).file(12), Places(65536).file(130)
            ('0012.html', '00128.html')
        """
        return f"{index - index % self.size:0{self.width}d}.html"

    def link(self, index: int) -> str:
        """Where an atom is, from another atom's page.

        Example:
            >>> Places(3072).link(12), Places(65536).link(130)
            ('0012.html', '00128.html#a130')
        """
        return self.file(index) if self.size == 1 else f"{self.file(index)}#a{index}"

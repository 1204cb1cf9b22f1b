#!/usr/bin/env python3
"""What Metal's language refuses and C++ takes, in preprocessed kernel text on standard input: pointers,
references and array parameters without an address space, constants at file scope outside the constant
space, long long. Lines of the dialect itself (compat_metal.h, the standard library) are skipped.
"""
import re
import sys

TYPES = (r'(?:unsigned(?:\s+(?:char|short|int|long))?|signed\s+char|float[234]?|u?int[234]?|uint|half_t|half|'
         r'char|short|long|bool|auto|frag_\w+|struct\s+\w+|\w+_args{names})')
SPACES = re.compile(r'address_space|metal_device|metal_shared|metal_private')
OWN = ('compat_metal.h', 'metal_stdlib', '<built-in>', '<command line>')


def lines_of(text):
    """(file, line number, line) of what the kernels' own files say."""
    name, number = '', 0
    for line in text.splitlines():
        marker = re.match(r'#\s*(?:line\s+)?(\d+)\s+"([^"]*)"', line)
        if marker:
            number, name = int(marker.group(1)), marker.group(2)
            continue
        if not name.endswith(OWN):
            yield name, number, line
        number += 1


def complaints(lines):
    text = '\n'.join(line for _, _, line in lines)
    names = '|'.join(sorted(set(re.findall(r'\b(?:typename|struct)\s+(\w+)', text))))
    types = TYPES.replace('{names}', '|' + names if names else '')
    pointer = re.compile(rf'(?<![\w<]){types}\s*(?:const\s*)?[*&]+\s*(?:const\s+)?\w+\s*(?:[,)=;\[{{]|$)')
    array = re.compile(rf'\b\w+\s*\((?:[^(){{}};]*,)?\s*(?:const\s+)?{types}\s+\w+\s*\[[^\]]*\]\s*[,)]')
    constant = re.compile(r'(?:static\s+)?(?:const|constexpr)\s[^()]*=|(?:static\s+)?constexpr\b')
    for name, number, line in lines:
        bare = re.sub(r'\boperator\b.*|"[^"]*"', '', line)
        space = SPACES.search(bare)
        if not space and pointer.search(bare):
            yield name, number, 'a pointer or reference without an address space (PRIVATE, GLOBAL, SHARED_PTR)'
        if not space and array.search(bare):
            yield name, number, 'an array parameter (PRIVATE)'
        if constant.match(line) and not space:
            yield name, number, 'a constant at file scope (TABLE, enum)'
        if re.search(r'\blong\s+long\b', bare):
            yield name, number, 'long long'


def main():
    found = list(complaints(list(lines_of(sys.stdin.read()))))
    for name, number, what in found:
        print(f'{name}:{number}: {what}')
    return 1 if found else 0


if __name__ == '__main__':
    sys.exit(main())

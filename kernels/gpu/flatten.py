#!/usr/bin/env python3
"""Text of the kernels as C arrays.

  flatten.py source --compat cuda|metal [--text FILE] [--depfile FILE] ALL_H OUT_C
      makes one text of ALL_H and what it includes by "…", each file once, the other dialects left out:
      const char gpu_source[]. --text also writes the text itself.
  flatten.py ptx OUT_C MODULE.ptx…
      embeds PTX files: const struct cuda_ptx cuda_ptx[], ended by a line without a module.
"""
import argparse
import pathlib
import re

INCLUDE = re.compile(r'\s*#\s*include\s+"([^"]+)"')
MARKED = re.compile(r'//sm_\d+ ')  # instructions for newer cards, see compat_cuda.h
DIALECT = re.compile(r'compat_\w+\.h$')


def flatten(path, compat, seen):
    """The lines of `path` with its includes in place; #line keeps the compiler's messages readable."""
    path = path.resolve()
    if path in seen:
        return []
    seen.append(path)
    lines = [f'#line 1 "{path.name}"\n']
    for number, line in enumerate(path.read_text(encoding='utf-8').splitlines(), 1):
        include = INCLUDE.match(line)
        if not include:
            lines.append(line + '\n')
            continue
        name = include.group(1)
        if not DIALECT.search(name) or name.endswith(f'compat_{compat}.h'):
            lines += flatten(path.parent / name, compat, seen)
        lines.append(f'#line {number + 1} "{path.name}"\n')
    return lines


def literal(line):
    """A C string literal of the UTF-8 bytes of `line`."""
    escapes = {ord('\\'): '\\\\', ord('"'): '\\"', ord('\n'): '\\n'}
    return '"' + ''.join(escapes.get(b) or (chr(b) if 32 <= b < 127 else f'\\{b:03o}') for b in line.encode()) + '"'


def write_array(out, declaration, lines):
    out.write(f'{declaration} =\n')
    out.writelines(literal(line) + '\n' for line in lines)
    out.write(';\n')


def write_source(options):
    seen = []
    lines = flatten(options.all, options.compat, seen)
    with open(options.out, 'w', encoding='ascii') as out:
        out.write('extern const char gpu_source[];\n')
        write_array(out, 'const char gpu_source[]', lines)
    if options.text:
        options.text.write_text(''.join(lines), encoding='utf-8')
    if options.depfile:
        options.depfile.write_text(f'{options.out}: {" ".join(map(str, seen))}\n', encoding='utf-8')


def write_ptx(options):
    with open(options.out, 'w', encoding='ascii') as out:
        out.write('#include "cuda/ptx.h"\n')
        for i, path in enumerate(options.ptx):
            lines = (line.strip() for line in path.read_text(encoding='ascii').splitlines())
            kept = (line + '\n' for line in lines if line and (not line.startswith('//') or MARKED.match(line)))
            write_array(out, f'static const char ptx{i}[]', kept)
        out.write('const struct cuda_ptx cuda_ptx[] = {\n')
        for i, path in enumerate(options.ptx):
            out.write(f'    {{"{path.stem}", ptx{i}, sizeof ptx{i}}},\n')
        out.write('    {0},\n};\n')


def main():
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(required=True)
    source = commands.add_parser('source')
    source.add_argument('--compat', choices=['cuda', 'metal'], required=True)
    source.add_argument('--text', type=pathlib.Path)
    source.add_argument('--depfile', type=pathlib.Path)
    source.add_argument('all', type=pathlib.Path)
    source.add_argument('out', type=pathlib.Path)
    source.set_defaults(run=write_source)
    ptx = commands.add_parser('ptx')
    ptx.add_argument('out', type=pathlib.Path)
    ptx.add_argument('ptx', type=pathlib.Path, nargs='*')
    ptx.set_defaults(run=write_ptx)
    options = parser.parse_args()
    options.run(options)


if __name__ == '__main__':
    main()

#!/usr/bin/env python3
"""A JSON file as a C string, without its blanks: embed.py NAME IN.json OUT.c"""
import json
import sys

name, source, out = sys.argv[1:]
with open(source, encoding='utf-8') as file:
    text = json.dumps(json.load(file), ensure_ascii=False, separators=(',', ':')).encode()
with open(out, 'w', encoding='ascii') as file:
    file.write(f'extern const char {name}[];\nconst char {name}[] = {{\n')
    for at in range(0, len(text), 24):
        file.write('    ' + ', '.join(str(byte) for byte in text[at:at + 24]) + ',\n')
    file.write('    0};\n')

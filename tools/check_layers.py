#!/usr/bin/env python3
"""Checks every #include under src/ against the table in src/LAYERS.

A file may include headers of its own room, of the rooms its row names, of the C library, and the
third-party headers its room owns. `*_int.h` never leaves its room. Inside a room, a subfolder uses
the room's top headers and its own, not a sibling's. Usage: check_layers.py [ROOT]
"""
import re
import sys
from pathlib import Path

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')

# Inside these rooms, these subfolders may be used by all.
SHARED_SUBFOLDERS = {"index": {"quant", "graph"}}

# The C library, the kernel's and the compiler's headers: free for all, unless a room owns one.
SYSTEM_FOLDERS = ("sys/", "linux/", "netinet/", "arpa/", "net/", "sanitizer/", "asm/", "bits/")
SYSTEM = set("""
aio.h assert.h complex.h cpuid.h ctype.h dirent.h dlfcn.h endian.h err.h errno.h execinfo.h fcntl.h
fenv.h float.h fnmatch.h ftw.h getopt.h glob.h grp.h iconv.h ifaddrs.h inttypes.h langinfo.h
libgen.h limits.h locale.h malloc.h math.h mntent.h netdb.h poll.h pthread.h pwd.h regex.h sched.h
search.h semaphore.h setjmp.h signal.h spawn.h stdalign.h stdarg.h stdatomic.h stdbool.h stddef.h
stdint.h stdio.h stdlib.h stdnoreturn.h string.h strings.h syslog.h termios.h tgmath.h threads.h
time.h uchar.h unistd.h wchar.h wctype.h
""".split())


def read_layers(path):
    """room -> (rooms it may include, headers or header folders it owns)"""
    rooms = {}
    for number, line in enumerate(path.read_text().splitlines(), 1):
        line = line.split("#", 1)[0].strip()
        if not line:
            continue
        room, colon, rest = line.partition(":")
        if not colon:
            sys.exit(f"{path}:{number}: expected 'room: rooms | headers'")
        uses, _, owns = rest.partition("|")
        rooms[room.strip()] = (set(uses.split()), set(owns.split()))
    for room, (uses, _) in rooms.items():
        for used in uses - rooms.keys():
            sys.exit(f"{path}: {room} names {used}, which is no room")
    return rooms


def check_cycles(rooms):
    def visit(room, trail):
        if room in trail:
            return [f"src/LAYERS: circle {' -> '.join(trail + [room])}"]
        return [e for used in sorted(rooms[room][0]) for e in visit(used, trail + [room])]
    return [e for room in sorted(rooms) for e in visit(room, [])]


def owns(owned, header):
    return any(header == o or header.startswith(o + "/") for o in owned)


def check_third_party(room, header, rooms):
    if owns(rooms[room][1], header):
        return None
    owners = sorted(r for r, (_, owned) in rooms.items() if owns(owned, header))
    if owners:
        return f"<{header}> belongs to {', '.join(owners)}"
    if header in SYSTEM or header.startswith(SYSTEM_FOLDERS):
        return None
    return f"<{header}> has no owner in src/LAYERS"


def check_own(room, source_parts, header, rooms):
    parts = header.split("/")
    if len(parts) < 2:
        return f'"{header}" must be written as "{room}/..."'
    if ".." in parts:
        return f'"{header}" climbs out of its folder'
    target = parts[0]
    if target not in rooms:
        return f'"{header}" is in no room of src/LAYERS'
    if target != room:
        if target not in rooms[room][0]:
            return f'"{header}": {room} may not include {target}'
        if parts[-1].endswith("_int.h"):
            return f'"{header}" is private to {target}'
        return None
    if len(source_parts) > 2 and len(parts) > 2 and source_parts[1] != parts[1] \
            and parts[1] not in SHARED_SUBFOLDERS.get(room, ()):
        return f'"{header}": {room}/{source_parts[1]} may not include its sibling {parts[1]}'
    return None


def main():
    root = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).resolve().parent.parent)
    src = root / "src"
    rooms = read_layers(src / "LAYERS")
    errors = check_cycles(rooms)
    nfiles = 0
    for path in sorted(src.rglob("*")):
        if path.suffix not in (".c", ".h", ".def", ".inc"):
            continue
        nfiles += 1
        parts = path.relative_to(src).parts
        where = path.relative_to(root)
        room = parts[0]
        if room not in rooms:
            errors.append(f"{where}: {room} is no room of src/LAYERS")
            continue
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
            match = INCLUDE.match(line)
            if not match:
                continue
            kind, header = match.groups()
            error = check_third_party(room, header, rooms) if kind == "<" \
                else check_own(room, parts, header, rooms)
            if error:
                errors.append(f"{where}:{number}: {error}")
    for error in errors:
        print(error)
    print(f"{nfiles} files, {len(errors)} arrows that are not in src/LAYERS")
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())

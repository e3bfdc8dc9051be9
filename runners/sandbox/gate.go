package sandbox

import "strconv"

// gateScript is the last thing that runs before the program, inside of its sandbox: it lowers the limits of its own
// process, which only the process itself can do and every shell can, says on descriptor 5 that the sandbox stands, waits
// for a line of requests until it is watched, and becomes the program. There are no core files. Shells disagree about the
// letter for the number of processes.
const (
	gateScript = `ulimit -c 0; ulimit -n "$1"; ulimit -f "$2"; [ -z "$3" ] || ulimit -d "$3"; ` +
		`[ -z "$4" ] || ulimit -u "$4" 2>/dev/null || ulimit -p "$4"; printf . >&5; exec 5>&-; read -r _ <&3 || exit 1; shift 4; `
	becomeProgram = `exec "$@"`
	watchProgram  = `"$@"; exit $?` // where the shell is the first process of its namespace, which must stay to bury the others
)

// gated puts the gate before a program. Memory and processes are only its business where nothing bounds the whole tree:
// then each process may have that much private writable memory, and its user that many processes.
func gated(l Limits, bounded bool, end string, argv []string) []string {
	memory, processes := "", "" // KiB, and a number
	if !bounded {
		memory, processes = positive(l.MemoryMB<<10), positive(l.Processes)
	}
	return append([]string{"/bin/sh", "-c", gateScript + end, "sh",
		strconv.Itoa(l.OpenFiles), strconv.Itoa(l.FileMB << 11), memory, processes}, argv...) // files in blocks of 512 bytes
}

func positive(n int) string {
	if n <= 0 {
		return ""
	}
	return strconv.Itoa(n)
}

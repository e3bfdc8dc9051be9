package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// cpuOf is the processor time that processes have taken up to now, their children included, by the names of their programs.
func cpuOf(roots ...int) map[string]time.Duration {
	const tick = 10 * time.Millisecond // USER_HZ is 100 on every Linux that Go runs on
	parents, names, times := map[int]int{}, map[int]string{}, map[int]time.Duration{}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		content, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		begin, end := strings.IndexByte(string(content), '('), strings.LastIndexByte(string(content), ')')
		pid, _ := strconv.Atoi(strings.TrimSpace(string(content[:begin])))
		fields := strings.Fields(string(content[end+1:]))
		parents[pid], _ = strconv.Atoi(fields[1])
		user, _ := strconv.Atoi(fields[11])
		system, _ := strconv.Atoi(fields[12])
		names[pid], times[pid] = string(content[begin+1:end]), time.Duration(user+system)*tick
	}
	taken := map[string]time.Duration{}
	for pid := range parents {
		for at := pid; at > 1; at = parents[at] {
			if slices.Contains(roots, at) {
				taken[names[pid]] += times[pid]
				break
			}
		}
	}
	return taken
}

// perCall says what calls took of the processors, in microseconds each.
func perCall(before, after map[string]time.Duration, calls int) string {
	var text []string
	var sum time.Duration
	for name, t := range after {
		if d := t - before[name]; d > 0 {
			sum += d
			text = append(text, fmt.Sprintf("%s %d", name, (d/time.Duration(calls)).Microseconds()))
		}
	}
	return fmt.Sprintf("%d µs of processor a call (%s)", (sum / time.Duration(calls)).Microseconds(), strings.Join(text, ", "))
}

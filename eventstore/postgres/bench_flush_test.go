package postgres_test

import (
	"testing"
	"time"
)

// addedFlush is how much longer than a good disk a slow one takes for a flush.
const addedFlush = time.Millisecond

// BenchmarkSlowFlush appends to a log whose disk takes a millisecond longer for each flush. A batch of half of the writers
// waits for one flush and for what it costs otherwise: that is the most that can be had, and what is compared with. What
// it costs otherwise is a reference machine's (20 µs an event and 0.4 ms), or this one's when that is slower now.
func BenchmarkSlowFlush(b *testing.B) {
	if !canEmulateDisk() {
		b.Skip("a slow disk needs gcc (apt-get install gcc libc6-dev) and 4 GB in /dev/shm")
	}
	const writers, batch = 128, 64
	log := &contender{
		name: "append 1", writers: writers, events: 1, call: appendTo(openStore(b, benchServer(b, goodDisk)), 1),
	}
	slowed := &contender{
		name: "append 1, a millisecond more a flush", writers: writers, events: 1,
		call: appendTo(openStore(b, benchServer(b, goodDisk+addedFlush)), 1),
	}
	alternate(b, log, slowed)
	here := time.Duration(batch/log.rate()*float64(time.Second)) + addedFlush
	reference := addedFlush + batch*20*time.Microsecond + 400*time.Microsecond
	b.Logf("a batch of %d should take %s here, %s on the reference machine", batch, here.Round(time.Microsecond), reference)
	requireRatio(b, "slow-flush/formula", slowed.rate(), batch/max(here, reference).Seconds(), leastOfSlowFlush)
}

package runners

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// orderOf lets two readers deliver their numbers, each after a pause, and returns the order in which they came and how
// long that took.
func orderOf(t *testing.T, pause time.Duration, first, second []int64, secondEnds bool) (order []int64, took time.Duration) {
	t.Helper()
	synctest.Test(t, func(*testing.T) {
		var o printOrder
		began := time.Now()
		delivered := make(chan int64, len(first)+len(second))
		read := func(numbers []int64, pause time.Duration, ends bool) {
			time.Sleep(pause)
			for _, n := range numbers {
				o.deliver(n, func() { delivered <- n })
			}
			if ends {
				o.end()
			}
		}
		go read(first, 0, true)
		go read(second, pause, secondEnds)
		for range cap(delivered) {
			order = append(order, <-delivered)
		}
		took = time.Since(began)
	})
	return order, took
}

func TestAReaderThatIsLateKeepsItsPlace(t *testing.T) {
	order, took := orderOf(t, time.Second, []int64{1, 2, 4}, []int64{0, 3}, true)
	require.Equal(t, []int64{0, 1, 2, 3, 4}, order)
	require.Equal(t, time.Second, took)
}

func TestWhatHasNoNumberIsNotHeldUp(t *testing.T) {
	order, _ := orderOf(t, time.Second, []int64{notNumbered, 1}, []int64{notNumbered, 0}, true)
	require.Equal(t, []int64{notNumbered, notNumbered, 0, 1}, order)
}

// Numbers are missing only when somebody tampered with the shim; the log goes on all the same.
func TestAMissingNumberIsGivenUpWhenNobodyCanBringIt(t *testing.T) {
	order, took := orderOf(t, 0, []int64{5, 9}, []int64{7}, true)
	require.Equal(t, []int64{5, 7, 9}, order)
	require.Zero(t, took, "each waits or has ended")

	order, took = orderOf(t, 0, []int64{5}, nil, false)
	require.Equal(t, []int64{5}, order)
	require.Equal(t, missingGrace, took, "the other might still bring it")
}

package postgres_test

import (
	"testing"

	"github.com/voltrun/voltrun/eventstore/pgtest"
	"github.com/voltrun/voltrun/guardtest"
)

func TestEveryGuardOfTheAppendIsMissedWhenItIsGone(t *testing.T) {
	t.Parallel()
	const (
		contract     = "TestPostgresStoreKeepsTheContract/"
		linearizable = "TestTheLogIsLinearizableOverSeveralProcesses"
		batches      = "TestABatchHasAStreamOnceAndAppendsToAStreamKeepTheirOrder"
		lostAnswer   = "TestAnAppendWhoseAnswerIsLostIsWrittenOnceAndAnswered"
		swallowed    = "TestABatchThatTheNetworkSwallowsIsWrittenOnceAllTheSame"
	)
	const lookUp = "`select r.n, e.position\n\t\t" +
		"from unnest($1::uuid[], $2::uuid[]) with ordinality as r (stream_id, id, n) join events e using (stream_id, id)`"
	const fromWrites = "    from unnest($1::int[], $2::uuid[], $3::int[], $4::int[]) with ordinality as r (append, stream_id, expected, events, write)"
	sql := func(name, code, without, test string) guardtest.Guard {
		return guardtest.Guard{Name: name, File: "append.sql", Embedded: "appendSQL", Code: code, Without: without, CaughtBy: test}
	}
	guards := []guardtest.Guard{
		sql("expected version", "expected >= 0 and expected <> version", "false",
			contract+"exactly n accepts only a stream with n events"),
		sql("expected version, seen by clients", "expected >= 0 and expected <> version", "false", linearizable),
		sql("expected version, against the model", "expected >= 0 and expected <> version", "false",
			"TestTheLogInPostgresBehavesLikeTheOneInMemory"),
		sql("a guard begins no stream", "j.version = 0 and j.events > 0", "j.version = 0", contract+"a write without events only guards"),
		sql("dense positions", "set position = position + total", "set position = position + total + 1",
			contract+"positions count from one over all streams without a gap"),
		sql("all or nothing over streams", "not exists (select from refused r where r.append = f.append)",
			"not (f.expected >= 0 and f.expected <> f.version)", linearizable),
		sql("order of the writes", "over (order by write) as upto", "over (order by write desc) as upto",
			contract+"writes of one append keep their order"),
		sql("a stream is looked up by its index",
			"(select s.version from streams s where s.stream_id = r.stream_id), 0) as version\n"+fromWrites,
			"s.version, 0) as version\n"+fromWrites+" left join streams s using (stream_id)", "TestABatchIsPlannedForALogOfAnySize"),
		sql("time that never goes back", "greatest(recorded_at, clock_timestamp())", "clock_timestamp()",
			"TestTimeNeverGoesBackWhateverTheClockDoes"),
		{
			Name: "lock first", File: "writer.go", CaughtBy: linearizable,
			In: "lockStatement:   fmt.Sprintf(\"select pg_advisory_xact_lock(%d)\"", Code: "\"select pg_advisory_xact_lock(%d)\"", Without: "\"select %d\"",
		},
		{
			Name: "durable before acknowledged", File: "writer.go",
			CaughtBy: "TestWhatWasAcknowledgedSurvivesACrashWhateverTheServersDefaultIs",
			Code:     `"on"`, Without: `"off"`,
		},
		{
			Name: "snapshot after the lock", File: "writer.go", CaughtBy: linearizable,
			Code: `"read committed"`, Without: `"repeatable read"`,
		},
		{
			Name: "a stream once in a batch", File: "writer.go", CaughtBy: batches,
			Code: "b.touches(r)", Without: "false",
		},
		{
			Name: "a guard and what it guards against are not in one batch", File: "batch.go", CaughtBy: batches,
			Code: "max(before, useOf(w)) == writing", Without: "before == writing && useOf(w) == writing",
		},
		{
			Name: "the deferred stay ahead", File: "writer.go", CaughtBy: batches,
			Code: "b.block(r)",
		},
		{
			Name: "look-up after an unknown outcome", File: "writer.go", CaughtBy: lostAnswer,
			Code: lookUp, Without: "`select 1, 1::bigint where $1::uuid[] is null and $2::uuid[] is null`",
		},
		{
			Name: "end of the connection before", File: "writer.go", CaughtBy: swallowed,
			Code: "if err := terminate(ctx, conn, w.name); err != nil {\n\t\tcloseNow(conn)\n\t\treturn err\n\t}",
		},
	}
	reading := func(name, code, without, test string) guardtest.Guard {
		return guardtest.Guard{Name: name, File: "reader.go", Code: code, Without: without, CaughtBy: test}
	}
	guards = append(guards,
		reading("a page of large payloads is cut", "bytes >= readBytes", "false", "TestAPageOfLargePayloadsHoldsAFewOfThem"),
		reading("what was cut is read later", "fitting == len(events) && len(events) < readPage", "len(events) < readPage",
			"TestAPageOfLargePayloadsHoldsAFewOfThem"),
		reading("large payloads are fetched", "sizes[i] > 0", "false", "TestPayloadsOfAnySizeAreReadInOrder"),
		reading("a full page is not the last one", "fitting == len(events) && len(events) < readPage", "true",
			contract+"the log is read after any position, over many pages"),
	)
	guardtest.Run(t, guards, "VOLTRUN_TEST_DATABASE_URL="+pgtest.Server(t).DSN())
}

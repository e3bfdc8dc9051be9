package runners

import (
	"encoding/json"
	"testing"

	"github.com/google/uuid"

	"github.com/voltrun/voltrun/domain"
)

// A cold start, a run and an end, from the call to the event.
func BenchmarkRun(b *testing.B) {
	for _, f := range []domain.Function{
		function("nodejs", "exports.handler = async () => 1"),
		function("python", "def handler(event):\n    return 1"),
	} {
		b.Run(f.Runtime, func(b *testing.B) {
			for b.Loop() {
				runner.Run(b.Context(), Invocation{ExecutionID: uuid.New(), Function: f, Input: json.RawMessage(`{}`)}, func(domain.ExecutionLogLine) {})
			}
		})
	}
}

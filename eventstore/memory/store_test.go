package memory_test

import (
	"testing"

	"github.com/voltrun/voltrun/eventstore"
	"github.com/voltrun/voltrun/eventstore/memory"
	"github.com/voltrun/voltrun/eventstore/storetest"
)

func TestMemoryStoreKeepsTheContract(t *testing.T) {
	storetest.Run(t, func(*testing.T) eventstore.Store { return memory.New() })
}

func TestMemoryAnswersKeepTheContract(t *testing.T) {
	storetest.RunAnswers(t, memory.New())
}

func TestMemoryVaultKeepsTheContract(t *testing.T) {
	storetest.RunVault(t, memory.New())
}

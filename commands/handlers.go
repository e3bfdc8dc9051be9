// Package commands carries out what people and workers ask for. A handler loads the streams that the decision depends
// on, folds them, lets the domain decide, and appends what was decided at the version that it saw. When somebody else
// was faster it decides again; it never retries anything but that. No handler reads a read model.
package commands

import (
	"crypto/rand"
	"time"

	"github.com/google/uuid"

	"github.com/voltrun/voltrun/domain"
	"github.com/voltrun/voltrun/eventstore"
)

// Handlers is every command that there is.
type Handlers struct {
	RegisterAccount RegisterAccountHandler
	EraseAccount    EraseAccountHandler
	LogIn           LogInHandler
	RefreshSession  RefreshSessionHandler
	SetRetention    SetRetentionHandler

	CreateFunction CreateFunctionHandler
	UpdateFunction UpdateFunctionHandler
	DeleteFunction DeleteFunctionHandler

	RequestExecution RequestExecutionHandler
	ClaimExecution   ClaimExecutionHandler
	ReportExecution  ReportExecutionHandler
	AbandonExecution AbandonExecutionHandler

	CreateKey  CreateKeyHandler
	NoteKeyUse NoteKeyUseHandler
	DeleteKey  DeleteKeyHandler

	journal   *journal
	vault     eventstore.Vault
	passwords *Passwords
	runtimes  []string
}

// New makes the handlers over a log and its vault. runtimes are the words of the runtimes that this host can serve.
func New(store eventstore.Store, vault eventstore.Vault, codec *eventstore.Codec, passwords *Passwords, runtimes []string) *Handlers {
	j := &journal{store: store, codec: codec, now: time.Now, newID: newID, random: rand.Reader, functions: newFunctionCache()}
	return newHandlers(j, vault, passwords, runtimes)
}

// over makes the same handlers over another journal and vault.
func (h *Handlers) over(j *journal, vault eventstore.Vault) *Handlers {
	return newHandlers(j, vault, h.passwords, h.runtimes)
}

func newHandlers(j *journal, vault eventstore.Vault, passwords *Passwords, runtimes []string) *Handlers {
	return &Handlers{
		journal: j, vault: vault, passwords: passwords, runtimes: runtimes,

		RegisterAccount: RegisterAccountHandler{j, vault, passwords},
		EraseAccount:    EraseAccountHandler{j, vault, passwords},
		LogIn:           LogInHandler{j, vault, passwords},
		RefreshSession:  RefreshSessionHandler{j},
		SetRetention:    SetRetentionHandler{j},

		CreateFunction: CreateFunctionHandler{j, runtimes},
		UpdateFunction: UpdateFunctionHandler{j},
		DeleteFunction: DeleteFunctionHandler{j},

		RequestExecution: RequestExecutionHandler{j},
		ClaimExecution:   ClaimExecutionHandler{j},
		ReportExecution:  ReportExecutionHandler{j},
		AbandonExecution: AbandonExecutionHandler{j},

		CreateKey:  CreateKeyHandler{j},
		NoteKeyUse: NoteKeyUseHandler{j},
		DeleteKey:  DeleteKeyHandler{j},
	}
}

// Origin says who asked for a command and in which request. Every event of the command carries it.
type Origin struct {
	Actor     domain.Actor
	RequestID uuid.UUID
}

// metadata is what the events of a command carry that concerns this account.
func (o Origin) metadata(accountID uuid.UUID) eventstore.Metadata {
	return eventstore.Metadata{AccountID: accountID, Actor: o.Actor, CorrelationID: o.RequestID, CausationID: o.RequestID}
}

// newID makes ids that rise with time (UUIDv7), so that indexes over them grow at their end.
func newID() uuid.UUID { return uuid.Must(uuid.NewV7()) }

// Package domain holds what VoltRun knows about accounts, sessions, functions, executions and API keys: their states,
// the events that change them, and the rules that decide which event may happen.
//
// Everything here is pure. A command's Decide takes a state and answers with events or an *Error; a state's Evolve
// takes an event and answers with the next state. There is no clock, no I/O and no identifier of its own making: times
// and ids come in with the command.
package domain

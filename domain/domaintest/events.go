// Package domaintest makes arbitrary events of the domain for property tests.
package domaintest

import (
	"encoding/json"
	"fmt"
	"reflect"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/voltrun/voltrun/domain"
)

// Event makes an event of any type that may stand in the log, see EventOf.
func Event() *rapid.Generator[domain.Event] { return EventOf(domain.Events()...) }

// EventOf makes an event of the type of one of these, with any content that its fields can hold: text is valid UTF-8,
// times are in UTC, JSON is as encoding/json writes it. Ids are few, so that they meet.
func EventOf(prototypes ...domain.Event) *rapid.Generator[domain.Event] {
	return rapid.Custom(func(t *rapid.T) domain.Event {
		prototype := rapid.SampledFrom(prototypes).Draw(t, "type")
		event := reflect.New(reflect.TypeOf(prototype)).Elem()
		fill(t, event)
		return event.Interface().(domain.Event)
	})
}

// ID makes one of a few ids, so that they meet, or the nil one.
func ID() *rapid.Generator[uuid.UUID] {
	return rapid.Custom(func(t *rapid.T) uuid.UUID {
		return uuid.UUID{15: rapid.ByteRange(0, 3).Draw(t, "id")}
	})
}

// Time makes a time as events hold it.
func Time() *rapid.Generator[time.Time] {
	return rapid.Custom(func(t *rapid.T) time.Time {
		return time.UnixMicro(rapid.Int64Range(0, 253402300799e6).Draw(t, "µs since 1970")).UTC()
	})
}

// fill sets a value to an arbitrary one of its type.
func fill(t *rapid.T, v reflect.Value) {
	switch v.Interface().(type) {
	case uuid.UUID:
		v.Set(reflect.ValueOf(ID().Draw(t, "id")))
		return
	case time.Time:
		v.Set(reflect.ValueOf(Time().Draw(t, "time")))
		return
	case json.RawMessage:
		v.Set(reflect.ValueOf(JSON().Draw(t, "JSON")))
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(rapid.String().Draw(t, "text"))
	case reflect.Int, reflect.Int64:
		v.SetInt(rapid.Int64().Draw(t, "number"))
	case reflect.Uint8:
		v.SetUint(uint64(rapid.Byte().Draw(t, "byte")))
	case reflect.Bool:
		v.SetBool(rapid.Bool().Draw(t, "bool"))
	case reflect.Slice:
		fillSlice(t, v)
	case reflect.Pointer:
		if rapid.Bool().Draw(t, "present") {
			v.Set(reflect.New(v.Type().Elem()))
			fill(t, v.Elem())
		}
	case reflect.Struct:
		for i := range v.NumField() {
			fill(t, v.Field(i))
		}
	case reflect.Array:
		for i := range v.Len() {
			fill(t, v.Index(i))
		}
	default:
		panic(fmt.Sprintf("domaintest cannot make a %s: teach it", v.Type()))
	}
}

func fillSlice(t *rapid.T, v reflect.Value) {
	n := rapid.IntRange(0, 4).Draw(t, "length")
	v.Set(reflect.MakeSlice(v.Type(), n, n))
	for i := range n {
		fill(t, v.Index(i))
	}
}

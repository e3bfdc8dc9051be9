package transfer

// A smaller parcel makes an import of few executions one of many appends.
func init() { appendStreams = 50 }

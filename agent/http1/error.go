package http1

import "errors"

// ErrIncomplete says that the bytes so far are fine, and more are needed.
var ErrIncomplete = errors.New("message is incomplete")

// Error is a violation of the protocol or of a limit. All of them are values of this
// package, so that meeting one costs nothing.
type Error struct {
	// Status is what a server answers: 400, 413, 414, 417, 431 or 505.
	Status int
	// Reason says what is wrong, without any of the offending bytes.
	Reason string
}

// Error returns the reason.
func (e *Error) Error() string { return e.Reason }

// What Parse and Chunks refuse.
var (
	errMethod        = &Error{400, "method is not a token"}
	errTarget        = &Error{400, "request target has an invalid byte"}
	errTargetForm    = &Error{400, "request target has no valid form for its method"}
	errTargetLong    = &Error{414, "request target is too long"}
	errVersion       = &Error{400, "protocol version is malformed"}
	errVersionOther  = &Error{505, "protocol version is not supported"}
	errLineEnd       = &Error{400, "line does not end in CRLF"}
	errFieldName     = &Error{400, "field name is not a token, or is not followed by a colon"}
	errFieldFolded   = &Error{400, "field line is folded"}
	errFieldValue    = &Error{400, "field value has a control character"}
	errHeadLarge     = &Error{431, "head is too large"}
	errHeadLines     = &Error{431, "head has too many lines"}
	errLength        = &Error{400, "Content-Length is not one decimal number"}
	errLengthTwice   = &Error{400, "Content-Length is given twice"}
	errEncoding      = &Error{400, "Transfer-Encoding is not exactly chunked"}
	errEncodingTwice = &Error{400, "Transfer-Encoding is given twice"}
	errEncodingOld   = &Error{400, "Transfer-Encoding in HTTP/1.0"}
	errBoth          = &Error{400, "both Content-Length and Transfer-Encoding"}
	errHost          = &Error{400, "Host is not host[:port]"}
	errHostCount     = &Error{400, "not exactly one Host"}
	errHostOther     = &Error{400, "request target and Host differ"}
	errExpect        = &Error{417, "Expect is not 100-continue"}
	errStatus        = &Error{400, "status line is malformed"}
	errChunkSize     = &Error{400, "chunk size is malformed"}
	errChunkExt      = &Error{400, "chunk extension is malformed"}
	errChunkExtLong  = &Error{400, "chunk extensions are too long"}
	errChunkEnd      = &Error{400, "chunk does not end where its size says"}
	errTrailer       = &Error{400, "trailer section is malformed"}
	errTrailerLarge  = &Error{431, "trailer section is too large"}
)

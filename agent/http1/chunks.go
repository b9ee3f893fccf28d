package http1

import (
	"errors"
	"strconv"
)

// The limits of a chunked body.
const (
	MaxExtension    = 256      // bytes of the extensions of one chunk
	maxExtensions   = 16 << 10 // bytes of the extensions of one body
	maxSizeDigits   = 15       // hexadecimal: what fits an int64 with room to add
	MaxTrailer      = 8 << 10  // bytes of a trailer section
	maxTrailerLines = 32
)

// Chunks takes the chunks of a body apart as its bytes come in (RFC 9112, 7.1). The
// zero value awaits the first chunk.
type Chunks struct {
	state      chunkState
	size       int64 // what is left of the chunk
	digits     int
	extension  int // bytes of this chunk's extensions
	extensions int // bytes of those before it
	trailer    []byte
	fields     []Field
}

type chunkState uint8

const (
	chunkSize chunkState = iota
	chunkExtension
	chunkSizeLF
	chunkData
	chunkDataCR
	chunkDataLF
	chunkTrailer
	chunkDone
)

// Reset makes c await the first chunk of another body.
func (c *Chunks) Reset() {
	*c = Chunks{trailer: c.trailer[:0], fields: c.fields[:0]}
}

// Done reports whether the body has ended, trailer section and all.
func (c *Chunks) Done() bool { return c.state == chunkDone }

// Trailer returns the fields of the trailer section once the body is done. They are
// valid until the next Reset.
func (c *Chunks) Trailer() []Field { return c.fields }

// Next consumes a part of buf, n bytes, and returns the data at its end, a piece of
// buf. Without data it has consumed all of buf, or the body is done.
func (c *Chunks) Next(buf []byte) (n int, data []byte, err error) {
	for i := 0; i < len(buf); {
		b := buf[i]
		switch c.state {
		case chunkSize:
			i++
			if digit, ok := unhex(b); ok {
				if c.digits++; c.digits > maxSizeDigits {
					return i, nil, errChunkSize
				}
				c.size = c.size<<4 | int64(digit)
				continue
			}
			switch {
			case c.digits == 0:
				return i, nil, errChunkSize
			case b == '\r':
				c.state = chunkSizeLF
			case b == ';':
				c.state = chunkExtension
				c.extension = 1
			default:
				return i, nil, errChunkSize
			}
		case chunkExtension:
			i++
			c.extension++
			switch {
			case b == '\r':
				c.state = chunkSizeLF
				c.extensions += c.extension
			case b < ' ' && b != '\t' || b == 0x7f:
				return i, nil, errChunkExt
			case c.extension > MaxExtension || c.extensions+c.extension > maxExtensions:
				return i, nil, errChunkExtLong
			}
		case chunkSizeLF:
			i++
			if b != '\n' {
				return i, nil, errChunkSize
			}
			if c.state = chunkData; c.size == 0 {
				c.state = chunkTrailer
			}
			c.digits = 0
		case chunkData:
			m := int(min(int64(len(buf)-i), c.size))
			if c.size -= int64(m); c.size == 0 {
				c.state = chunkDataCR
			}
			return i + m, buf[i : i+m], nil
		case chunkDataCR:
			i++
			if b != '\r' {
				return i, nil, errChunkEnd
			}
			c.state = chunkDataLF
		case chunkDataLF:
			i++
			if b != '\n' {
				return i, nil, errChunkEnd
			}
			c.state = chunkSize
		case chunkTrailer:
			m, err := c.addTrailer(buf[i:])
			return i + m, nil, err
		case chunkDone:
			return i, nil, nil
		}
	}
	return len(buf), nil, nil
}

// addTrailer gathers the trailer section, mostly nothing but an empty line, until it
// can be parsed. It looks only after line feeds, so that bytes which trickle in do
// not make it begin anew with each of them.
func (c *Chunks) addTrailer(buf []byte) (int, error) {
	for i, b := range buf {
		if c.trailer = append(c.trailer, b); len(c.trailer) > MaxTrailer {
			return i + 1, errTrailerLarge
		}
		if b != '\n' {
			continue
		}
		var err error
		c.fields, _, err = fields(c.fields[:0], c.trailer, 0, maxTrailerLines)
		switch {
		case err == nil:
			c.state = chunkDone
			return i + 1, nil
		case errors.Is(err, errHeadLines):
			return i + 1, errTrailerLarge
		case !errors.Is(err, ErrIncomplete):
			return i + 1, errTrailer
		}
	}
	return len(buf), nil
}

// Compact takes apart what of a body is in buf, moves the data to the beginning of
// buf, and returns it together with how many bytes of buf were consumed: all of them,
// unless the body is done.
func (c *Chunks) Compact(buf []byte) (n int, data []byte, err error) {
	end := 0
	for n < len(buf) && !c.Done() {
		m, piece, err := c.Next(buf[n:])
		n += m
		if err != nil {
			return n, nil, err
		}
		end += copy(buf[end:], piece)
	}
	return n, buf[:end], nil
}

func unhex(b byte) (byte, bool) {
	switch {
	case '0' <= b && b <= '9':
		return b - '0', true
	case 'a' <= b|0x20 && b|0x20 <= 'f':
		return b | 0x20 - 'a' + 10, true
	}
	return 0, false
}

// LastChunk ends a chunked body without trailers.
const LastChunk = "0\r\n\r\n"

// AppendChunkSize appends the line in front of a chunk of n bytes, n > 0. Behind the
// bytes comes a CRLF.
func AppendChunkSize(dst []byte, n int) []byte {
	return append(strconv.AppendInt(dst, int64(n), 16), '\r', '\n')
}

// AppendField appends a field line. Name and value must be what IsToken and
// IsFieldValue accept.
func AppendField(dst []byte, name, value string) []byte {
	dst = append(append(dst, name...), ": "...)
	return append(append(dst, value...), '\r', '\n')
}

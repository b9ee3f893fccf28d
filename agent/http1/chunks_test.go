package http1

import (
	"bytes"
	"errors"
	"io"
	"net/http/httputil"
	"strings"
	"testing"
)

func TestChunks(t *testing.T) {
	extension := ";" + strings.Repeat("x", MaxExtension-2)
	for _, c := range []struct {
		name, in string
		err      *Error
		data     string
		trailer  string
		rest     string
		open     bool // the body has not ended
	}{
		{name: "one", in: "3\r\nabc\r\n0\r\n\r\n", data: "abc"},
		{name: "two and a rest", in: "3\r\nabc\r\n00a\r\n0123456789\r\n000\r\n\r\nGET", data: "abc0123456789", rest: "GET"},
		{name: "empty", in: "0\r\n\r\n"},
		{name: "extensions", in: "3;a=b;c=\"d\"\r\nabc\r\n0;x\r\n\r\n", data: "abc"},
		{name: "longest extension", in: "1" + extension + "\r\na\r\n0\r\n\r\n", data: "a"},
		{name: "trailer", in: "1\r\na\r\n0\r\nX-Sum:  4 \r\nY: z\r\n\r\nrest", data: "a", trailer: "X-Sum=4,Y=z", rest: "rest"},
		{name: "cut in the data", in: "5\r\nabc", data: "abc", open: true},
		{name: "cut in the size", in: "5", open: true},
		{name: "cut before the end", in: "1\r\na\r\n0\r\n", data: "a", open: true},
		{name: "cut in the trailer", in: "0\r\nX: y\r\n", open: true},

		{name: "no size", in: "\r\nabc", err: errChunkSize},
		{name: "sign", in: "+3\r\nabc", err: errChunkSize},
		{name: "minus", in: "-3\r\nabc", err: errChunkSize},
		{name: "prefix", in: "0x3\r\nabc", err: errChunkSize},
		{name: "space before", in: " 3\r\nabc", err: errChunkSize},
		{name: "space behind", in: "3 \r\nabc", err: errChunkSize},
		{name: "tab behind", in: "3\t;x\r\nabc", err: errChunkSize},
		{name: "underscore", in: "1_0\r\n", err: errChunkSize},
		{name: "no digit", in: "g\r\n", err: errChunkSize},
		{name: "too many digits", in: "0000000000000003\r\nabc", err: errChunkSize},
		{name: "overflow", in: "fffffffffffffffff\r\n", err: errChunkSize},
		{name: "bare LF", in: "3\nabc", err: errChunkSize},
		{name: "bare CR", in: "3\rxabc", err: errChunkSize},
		{name: "longer extension", in: "1x" + extension, err: errChunkSize},
		{name: "extension too long", in: "1" + extension + "xx\r\na", err: errChunkExtLong},
		{name: "bare LF in extension", in: "1;a\nb\r\na", err: errChunkExt},
		{name: "NUL in extension", in: "1;a\x00\r\na", err: errChunkExt},
		{name: "bare CR in extension", in: "1;a\rb\r\na", err: errChunkSize},
		{name: "many extensions", in: strings.Repeat("1"+extension+"\r\na\r\n", 1+maxExtensions/MaxExtension), err: errChunkExtLong},
		{name: "data longer", in: "3\r\nabcd\r\n", err: errChunkEnd},
		{name: "data shorter", in: "3\r\nab\r\n0\r\n\r\n", err: errChunkEnd},
		{name: "data without CR", in: "3\r\nabc\n0\r\n\r\n", err: errChunkEnd},
		{name: "data without LF", in: "3\r\nabc\r0\r\n\r\n", err: errChunkEnd},
		{name: "bare LF ends trailer", in: "0\r\n\n", err: errTrailer},
		{name: "folded trailer", in: "0\r\nX: a\r\n b\r\n\r\n", err: errTrailer},
		{name: "trailer without colon", in: "0\r\nGET / HTTP/1.1\r\n", err: errTrailer},
		{name: "trailer too long", in: "0\r\nX: " + strings.Repeat("a", MaxTrailer), err: errTrailerLarge},
		{name: "too many trailers", in: "0\r\n" + strings.Repeat("X: y\r\n", maxTrailerLines+1), err: errTrailerLarge},
	} {
		for _, size := range []int{1, 2, 7, len(c.in)} {
			data, trailer, rest, done, err := decode(c.in, size)
			if c.err != nil {
				if !errors.Is(err, c.err) {
					t.Errorf("%s, by %d: got %v, want %v", c.name, size, err, c.err)
				}
				continue
			}
			if err != nil || data != c.data || trailer != c.trailer || rest != c.rest || done == c.open {
				t.Errorf("%s, by %d: got %q, trailer %q, rest %q, done %v, %v", c.name, size, data, trailer, rest, done, err)
			}
		}
	}
}

// decode decodes a body that comes in pieces of a size.
func decode(in string, size int) (data, trailer, rest string, done bool, err error) {
	var c Chunks
	var out bytes.Buffer
	for i := 0; i < len(in); {
		piece := []byte(in[i:min(len(in), i+size)])
		n, decoded, err := c.Compact(piece)
		if err != nil {
			return "", "", "", false, err
		}
		out.Write(decoded)
		i += n
		if c.Done() {
			rest = in[i:]
			break
		}
	}
	for i, f := range c.Trailer() {
		if !c.Done() {
			break
		}
		if i > 0 {
			trailer += ","
		}
		trailer += f.Name + "=" + f.Value
	}
	return out.String(), trailer, rest, c.Done(), nil
}

func TestTrailerAllowed(t *testing.T) {
	for name, want := range map[string]bool{
		"X-Sum": true, "Grpc-Status": true, "Server-Timing": true, "Etag": true,
		"Content-Length": false, "transfer-encoding": false, "Host": false, "Trailer": false, "Content-Encoding": false, "content-type": false,
		"Authorization": false, "Set-Cookie": false, "Cookie": false, "Cache-Control": false, "X-Forwarded-For": false, "Connection": false, "Location": false,
	} {
		if got := TrailerAllowed(&Field{Name: name, Kind: KindOf(name)}); got != want {
			t.Errorf("%s: got %v", name, got)
		}
	}
}

// FuzzChunks decodes what httputil encodes, cut anywhere, and checks that what is
// decoded from anything else does not depend on how it was cut.
func FuzzChunks(f *testing.F) {
	f.Add([]byte("3\r\nabc\r\n0\r\nX: y\r\n\r\nrest"), 2)
	f.Add([]byte("1;x\r\na\r\n00\r\n\r\n"), 1)
	f.Fuzz(func(t *testing.T, in []byte, size int) {
		size = max(1, size%64)
		data, trailer, rest, done, err := decode(string(in), size)
		data2, trailer2, rest2, done2, err2 := decode(string(in), len(in))
		if data != data2 || trailer != trailer2 || rest != rest2 || done != done2 || !errors.Is(err, err2) {
			t.Fatalf("%q by %d: %q %q %q %v %v, at once %q %q %q %v %v", in, size, data, trailer, rest, done, err, data2, trailer2, rest2, done2, err2)
		}
		var encoded bytes.Buffer
		w := httputil.NewChunkedWriter(&encoded)
		for i := 0; i < len(in); i += size {
			_, _ = w.Write(in[i:min(len(in), i+size)])
		}
		_ = w.Close()
		encoded.WriteString("\r\nrest")
		if data, _, rest, done, err := decode(encoded.String(), size); err != nil || data != string(in) || rest != "rest" || !done {
			t.Fatalf("%q encoded: got %q, rest %q, %v, %v", in, data, rest, done, err)
		}
		var ours []byte
		if len(in) > 0 {
			ours = append(append(AppendChunkSize(nil, len(in)), in...), "\r\n"...)
		}
		got, err := io.ReadAll(httputil.NewChunkedReader(bytes.NewReader(append(ours, LastChunk...))))
		if err != nil || !bytes.Equal(got, in) {
			t.Fatalf("%q: net/http decodes %q, %v", in, got, err)
		}
	})
}

func FuzzControl(f *testing.F) {
	f.Add([]byte("aaaaaaaaaaa\x7f\x80\xff \x1f"), 1)
	f.Fuzz(func(t *testing.T, in []byte, from int) {
		if from < 0 || from > len(in) {
			return
		}
		want := from
		for want < len(in) && in[want] >= ' ' && in[want] != 0x7f {
			want++
		}
		if got := control(in, from); got != want {
			t.Fatalf("%q from %d: got %d, want %d", in, from, got, want)
		}
	})
}

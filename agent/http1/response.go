package http1

const maxResponseLines = 256

// Response is the head of a response. A value can be used for one response after the
// other: Parse sets all of it, and uses the memory of Fields again.
type Response struct {
	// Status is 100 to 999, and Reason the phrase behind it, which may be empty.
	Status int
	Reason string
	// Minor is the minor version: 0 or 1.
	Minor int
	// Fields in their order.
	Fields []Field
	// Length is the value of Content-Length, or -1 if there is none.
	Length int64
	// Chunked says that the body is chunked.
	Chunked bool
	// Close says that no response follows on this connection.
	Close bool
	// Connection says that there is a Connection field.
	Connection bool
}

// Parse reads the head at the beginning of buf and returns how many bytes it has. It
// returns ErrIncomplete if buf does not hold all of it, and an *Error, whose status
// does not matter here, if what is there can never become a head.
func (r *Response) Parse(buf []byte) (int, error) {
	n, err := r.parse(buf)
	if err == ErrIncomplete && len(buf) >= MaxHead || err == nil && n > MaxHead { //nolint:errorlint // never wrapped here
		return 0, errHeadLarge
	}
	return n, err
}

func (r *Response) parse(buf []byte) (int, error) {
	const version = "HTTP/1."
	for i := 0; i < min(len(buf), len(version)); i++ {
		if buf[i] != version[i] {
			return 0, errStatus
		}
	}
	const least = len("HTTP/1.1 200\r\n")
	if len(buf) < least {
		return 0, ErrIncomplete
	}
	minor := buf[7] - '0'
	hundreds, tens, ones := buf[9]-'0', buf[10]-'0', buf[11]-'0'
	if minor > 1 || buf[8] != ' ' || hundreds < 1 || hundreds > 9 || tens > 9 || ones > 9 {
		return 0, errStatus
	}
	r.Minor, r.Status, r.Reason = int(minor), int(hundreds)*100+int(tens)*10+int(ones), ""
	i := 12
	if buf[i] == ' ' {
		i++
	} else if buf[i] != '\r' {
		return 0, errStatus
	}
	end, next, err := lineEnd(buf, i, errStatus)
	if err != nil {
		return 0, err
	}
	r.Reason = text(buf[i:end])
	if r.Fields, i, err = fields(r.Fields[:0], buf, next, maxResponseLines); err != nil {
		return 0, err
	}
	return i, r.interpret()
}

func (r *Response) interpret() error {
	r.Length, r.Chunked, r.Close, r.Connection = -1, false, r.Minor == 0, false
	for i := range r.Fields {
		f := &r.Fields[i]
		switch f.Kind {
		case ContentLength:
			if r.Length >= 0 {
				return errLengthTwice
			}
			n, err := length(f.Value)
			if err != nil {
				return err
			}
			r.Length = n
		case TransferEncoding:
			switch {
			case r.Chunked:
				return errEncodingTwice
			case r.Minor == 0:
				return errEncodingOld
			case !EqualFold(f.Value, "chunked"):
				return errEncoding
			}
			r.Chunked = true
		case Connection:
			r.Connection = true
			r.Close = r.Close || HasToken(f.Value, "close")
		}
	}
	if r.Chunked && r.Length >= 0 {
		return errBoth
	}
	return nil
}

// Bodiless reports whether the response has no body whatever its fields say: they
// then describe the one that another request would get (RFC 9112, 6.3).
func (r *Response) Bodiless(method string) bool {
	return method == "HEAD" || r.Status < 200 || r.Status == 204 || r.Status == 304
}

package main

import (
	"fmt"
	"io"
	"os"
	"strings"
)

// secretsFlag takes NAME=FILE, where FILE holds the value: never the value itself,
// which others could read in the list of processes and in the shell's history.
type secretsFlag map[string]string

// Set takes one secret.
func (f secretsFlag) Set(text string) error {
	name, file, ok := strings.Cut(text, "=")
	if !ok || name == "" || file == "" {
		return fmt.Errorf("must be NAME=FILE, or NAME=- for stdin")
	}
	if _, twice := f[name]; twice {
		return fmt.Errorf("%s is given twice", name)
	}
	for _, other := range f {
		if file == "-" && other == "-" {
			return fmt.Errorf("only one secret can be read from stdin")
		}
	}
	f[name] = file
	return nil
}

// String returns nothing: there is no default.
func (f secretsFlag) String() string { return "" }

// Type is how the flag's value is called.
func (f secretsFlag) Type() string { return "NAME=FILE" }

// maxSecretFile is the most bytes that are read of a file with a secret.
const maxSecretFile = 64 << 10

// read returns the secrets' values, without the line's end that editors add.
func (f secretsFlag) read(c *cli) (map[string]string, error) {
	values := map[string]string{}
	for name, file := range f {
		data, err := readSecret(c, file)
		if err != nil {
			return nil, fmt.Errorf("read the secret %s: %w", name, err)
		}
		value := strings.TrimSuffix(strings.TrimSuffix(string(data), "\n"), "\r")
		if value == "" {
			return nil, exitf(exitUsage, "the secret %s is empty in %s", name, file)
		}
		values[name] = value
	}
	return values, nil
}

func readSecret(c *cli, file string) (data []byte, err error) {
	in := c.in
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, err
		}
		defer func() { _ = f.Close() }() // it was only read
		in = f
	}
	return io.ReadAll(io.LimitReader(in, maxSecretFile))
}

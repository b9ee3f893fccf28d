package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	yaml "go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// print writes an answer in the format of --output. As json and yaml it is the
// control plane's own message; table writes the text form. Nothing is written
// if either fails.
func (c *cli) print(answer any, table func(io.Writer)) error {
	var buf bytes.Buffer
	var err error
	switch c.output.value {
	case "json":
		err = encodeJSON(&buf, answer)
	case "yaml":
		err = encodeYAML(&buf, answer)
	default:
		// Lines without a tab between two tables keep their columns apart.
		w := tabwriter.NewWriter(&buf, 0, 0, 2, ' ', 0)
		table(w)
		err = w.Flush()
	}
	if err == nil {
		_, err = c.out.Write(buf.Bytes())
	}
	if err != nil {
		return fmt.Errorf("print the answer: %w", err)
	}
	return nil
}

func encodeJSON(buf *bytes.Buffer, answer any) error {
	raw, err := marshal(answer)
	if err != nil {
		return err
	}
	// Indenting anew also undoes the white space that protojson varies from
	// build to build.
	if err := json.Indent(buf, raw, "", "  "); err != nil {
		return err
	}
	return buf.WriteByte('\n')
}

// encodeYAML keeps the order of the fields, which a map would lose: JSON is YAML
// in another style.
func encodeYAML(buf *bytes.Buffer, answer any) error {
	raw, err := marshal(answer)
	if err != nil {
		return err
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(raw, &doc); err != nil {
		return err
	}
	blockStyle(&doc)
	encoder := yaml.NewEncoder(buf)
	encoder.SetIndent(2)
	if err := encoder.Encode(&doc); err != nil {
		return err
	}
	return encoder.Close()
}

// blockStyle undoes the quotes and braces of JSON where YAML needs none.
func blockStyle(n *yaml.Node) {
	n.Style = 0
	for _, child := range n.Content {
		blockStyle(child)
	}
}

// marshal writes fields that are zero too, so that scripts find them.
func marshal(answer any) ([]byte, error) {
	if m, ok := answer.(proto.Message); ok {
		return protojson.MarshalOptions{EmitDefaultValues: true}.Marshal(m)
	}
	return json.Marshal(answer)
}

// row writes one line of a table; an empty cell becomes a dash.
func row(w io.Writer, cells ...string) {
	for i, cell := range cells {
		if cells[i] = clean(cell); cells[i] == "" {
			cells[i] = "-"
		}
	}
	linef(w, "%s", strings.Join(cells, "\t"))
}

// linef writes one line. Its writers keep lines in memory or have nobody to
// tell when a terminal is gone, so there is no error to hand on.
func linef(w io.Writer, format string, args ...any) {
	_, _ = fmt.Fprintf(w, format+"\n", args...)
}

// clean replaces what would break a line or steer a terminal: texts come from
// agents and other operators.
func clean(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Cf, r) {
			return ' '
		}
		return r
	}, text)
}

func percentText(percent float64) string {
	return strconv.FormatFloat(percent, 'f', -1, 64) + " %"
}

func timeText(t *timestamppb.Timestamp) string {
	if t == nil {
		return ""
	}
	return t.AsTime().UTC().Format(time.DateTime) + "Z"
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// firstFew writes a few of many resource names or ids, and how many more there
// are.
func firstFew(names []string, total, most int) string {
	shown := make([]string, min(most, len(names)))
	for i := range shown {
		shown[i] = short(names[i])
	}
	text := clean(strings.Join(shown, ", "))
	if more := total - len(shown); more > 0 && len(shown) > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

package daemon

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

// settings is a set of flags of every kind that the daemons use.
type settings struct {
	flags  *pflag.FlagSet
	name   string
	count  int
	on     bool
	list   []string
	labels map[string]string
}

func newSettings() *settings {
	s := &settings{flags: pflag.NewFlagSet("test", pflag.ContinueOnError)}
	s.flags.String(configFlag, "", "")
	s.flags.StringVar(&s.name, "name", "default", "")
	s.flags.IntVar(&s.count, "count", 1, "")
	s.flags.BoolVar(&s.on, "turned-on", false, "")
	s.flags.StringSliceVar(&s.list, "list", nil, "")
	s.flags.StringToStringVar(&s.labels, "label", nil, "")
	return s
}

func TestPrecedence(t *testing.T) {
	file := filepath.Join(t.TempDir(), "c.yaml")
	text := "name: file\ncount: 2\nturned-on: true\nlist: [a, b]\nlabel: {zone: one}\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		args []string
		env  map[string]string
		name string
		list []string
	}{
		"default":          {name: "default"},
		"file":             {args: []string{"--config", file}, name: "file", list: []string{"a", "b"}},
		"file from env":    {env: map[string]string{"FIFE_CONFIG": file}, name: "file", list: []string{"a", "b"}},
		"env over file":    {args: []string{"--config", file}, env: map[string]string{"FIFE_NAME": "env", "FIFE_LIST": "c"}, name: "env", list: []string{"c"}},
		"flag over env":    {args: []string{"--name", "flag", "--config", file}, env: map[string]string{"FIFE_NAME": "env"}, name: "flag", list: []string{"a", "b"}},
		"empty is unset":   {env: map[string]string{"FIFE_NAME": "", "FIFE_TURNED_ON": ""}, name: "default"},
		"list in the flag": {args: []string{"--list", "x,y", "--list", "z", "--config", file}, name: "file", list: []string{"x", "y", "z"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSettings()
			if err := s.flags.Parse(test.args); err != nil {
				t.Fatal(err)
			}
			getenv := func(name string) (string, bool) { v, ok := test.env[name]; return v, ok }
			if err := loadSettings(s.flags, nil, getenv); err != nil {
				t.Fatal(err)
			}
			if s.name != test.name || !slices.Equal(s.list, test.list) {
				t.Errorf("got name %q and list %q, want %q and %q", s.name, s.list, test.name, test.list)
			}
			fromFile := test.list != nil
			if fromFile && (!s.on || s.count != 2 || s.labels["zone"] != "one") {
				t.Errorf("the file's other settings are lost: %+v", s)
			}
		})
	}
}

func TestBadSettings(t *testing.T) {
	dir := t.TempDir()
	for name, test := range map[string]struct{ file, env, want string }{
		"unknown key":   {file: "nome: x", want: `unknown setting "nome"`},
		"config itself": {file: "config: x", want: `unknown setting "config"`},
		"wrong kind":    {file: "count: many", want: `setting "count"`},
		"no value":      {file: "name:", want: "has no value"},
		"no yaml":       {file: "a: [", want: "read configuration"},
		"bad variable":  {env: "many", want: "environment variable FIFE_COUNT"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSettings()
			if test.file != "" {
				path := filepath.Join(dir, strings.ReplaceAll(name, " ", "-"))
				if err := os.WriteFile(path, []byte(test.file), 0o600); err != nil {
					t.Fatal(err)
				}
				if err := s.flags.Set(configFlag, path); err != nil {
					t.Fatal(err)
				}
			}
			err := loadSettings(s.flags, nil, func(v string) (string, bool) { return test.env, v == "FIFE_COUNT" })
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want it to say %q", err, test.want)
			}
		})
	}
}

func TestSettingsOfAnotherCommand(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.yaml")
	if err := os.WriteFile(path, []byte("name: file\nadmin: x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	other := pflag.NewFlagSet("other", pflag.ContinueOnError)
	other.String("admin", "", "")
	none := func(string) (string, bool) { return "", false }
	for _, test := range []struct {
		other *pflag.FlagSet
		ok    bool
	}{{other, true}, {nil, false}} {
		s := newSettings()
		if err := s.flags.Set(configFlag, path); err != nil {
			t.Fatal(err)
		}
		if err := loadSettings(s.flags, test.other, none); (err == nil) != test.ok || (test.ok && s.name != "file") {
			t.Errorf("got %v and name %q", err, s.name)
		}
	}
}

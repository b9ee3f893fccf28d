package daemon

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"
)

// configFlag names the YAML file. It is itself a setting, but not one of a file.
const configFlag = "config"

// loadSettings gives every flag that is not on the command line its value from
// the environment or, failing that, from the file that --config names. The
// environment spells --data-dir as FIFE_DATA_DIR, the file as data-dir; lists are
// YAML lists there and comma-separated elsewhere. An unknown key of the file is an
// error, as it is most likely a typing mistake; an empty variable counts as unset.
//
// A file may also hold settings of other, the flags of the command above this one,
// so that one file serves both; other may be nil.
func loadSettings(flags, other *pflag.FlagSet, getenv func(string) (string, bool)) error {
	if err := loadEnvironment(flags, getenv); err != nil {
		return err
	}
	path := flags.Lookup(configFlag).Value.String()
	if path == "" {
		return nil
	}
	values, err := readFile(path)
	if err != nil {
		return err
	}
	for key, value := range values {
		f := flags.Lookup(key)
		if f == nil && other != nil && other.Lookup(key) != nil {
			continue
		}
		if f == nil || key == configFlag {
			return fmt.Errorf("%s: unknown setting %q", path, key)
		}
		if f.Changed {
			continue
		}
		text, err := settingText(value)
		if err == nil {
			err = flags.Set(key, text)
		}
		if err != nil {
			return fmt.Errorf("%s: setting %q: %w", path, key, err)
		}
	}
	return nil
}

func loadEnvironment(flags *pflag.FlagSet, getenv func(string) (string, bool)) error {
	var errs []error
	flags.VisitAll(func(f *pflag.Flag) {
		name := environmentName(f.Name)
		value, _ := getenv(name)
		if f.Changed || value == "" {
			return
		}
		if err := flags.Set(f.Name, value); err != nil {
			errs = append(errs, fmt.Errorf("environment variable %s: %w", name, err))
		}
	})
	return errors.Join(errs...)
}

// environmentName returns the variable that stands for a flag.
func environmentName(flag string) string {
	return "FIFE_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

func readFile(path string) (map[string]any, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	defer f.Close() //nolint:errcheck // it was only read
	values := map[string]any{}
	if err := yaml.NewDecoder(f).Decode(&values); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read configuration %s: %w", path, err)
	}
	return values, nil
}

// settingText spells a value of a file as a flag takes it.
func settingText(value any) (string, error) {
	switch v := value.(type) {
	case []any:
		parts := make([]string, len(v))
		for i, e := range v {
			text, err := settingText(e)
			if err != nil {
				return "", err
			}
			parts[i] = text
		}
		return strings.Join(parts, ","), nil
	case map[string]any:
		var parts []string
		for k, e := range v {
			text, err := settingText(e)
			if err != nil {
				return "", err
			}
			parts = append(parts, k+"="+text)
		}
		return strings.Join(parts, ","), nil
	case nil:
		return "", errors.New("has no value")
	}
	return fmt.Sprint(value), nil
}

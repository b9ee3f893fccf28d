package cmd_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestAWS plays the stories that Amazon's own tools tell, where these are installed:
// `apt-get install awscli python3-boto3`.
func TestAWS(t *testing.T) {
	if _, err := exec.LookPath("aws"); err != nil {
		t.Log("the AWS CLI is not installed: its stories are not played")
		return
	}
	play(t, "testdata/aws", func(env *testscript.Env) {
		boto3 := exec.CommandContext(t.Context(), "python3", "-c", "import boto3")
		if out, err := boto3.CombinedOutput(); err != nil {
			t.Logf("boto3 is not installed: its part is not played: %s", out)
			env.Setenv("PYTHON", "true")
		} else {
			env.Setenv("PYTHON", "python3")
		}
		env.Setenv("HOME", os.Getenv("HOME")) // where Python's tools may be installed
		for name, value := range map[string]string{
			"AWS_CONFIG_FILE": os.DevNull, "AWS_SHARED_CREDENTIALS_FILE": os.DevNull, "AWS_EC2_METADATA_DISABLED": "true",
			"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "eu-west-1", "AWS_PAGER": "",
		} {
			env.Setenv(name, value)
		}
	})
}

// cmdTake puts what the last command wrote into a variable: take VAR
func cmdTake(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: take VAR")
	}
	ts.Setenv(args[0], strings.TrimSpace(ts.ReadFile("stdout")))
}

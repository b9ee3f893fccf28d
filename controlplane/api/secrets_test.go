package api_test

import (
	"fmt"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/fifegateway/fife/controlplane/identity"
	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

const secretText = "0123456789abcdef-hush"

// backup returns what a backup of the cluster holds.
func (b *bench) backup() []byte {
	b.t.Helper()
	pieces, err := drain(b.nodes["n1"].cluster.BackupCluster(b.t.Context(), &fifev1.BackupClusterRequest{}))
	if err != nil {
		b.t.Fatal(err)
	}
	var all []byte
	for _, p := range pieces {
		all = append(all, p.GetData()...)
	}
	return all
}

// TestSecretsStayHidden: what is set as a secret is in no answer and not in the state,
// on whichever node it was set and by whichever method.
func TestSecretsStayHidden(t *testing.T) {
	secret := map[string]string{"s": secretText}
	inBubble(t, 3, func(t *testing.T, b *bench) {
		b.stock()
		c, ctx := b.nodes[b.follower()], t.Context()
		var seen strings.Builder
		stage := func(s *fifev1.Stage, err error) *fifev1.Stage {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintln(&seen, s)
			return s
		}
		made, err := c.stages.CreateStage(ctx, &fifev1.CreateStageRequest{Parent: demo, StageId: "new", RequestId: "r", Stage: &fifev1.Stage{
			Deployment: first, Variables: map[string]string{"p": "1"}, SecretVariables: secret,
			Canary: &fifev1.Canary{Percent: 1, SecretOverrides: secret}, Split: &fifev1.SplitPolicy{AllowOverride: true, OverrideKey: secretText},
		}})
		if s := stage(made.GetStage(), err); s.GetSecretVariables()["s"] != "" || len(s.GetSecretVariables()) != 1 || len(s.GetVariables()) != 1 ||
			len(s.GetCanary().GetSecretOverrides()) != 1 || len(s.GetCanary().GetVariableOverrides()) != 0 {
			t.Errorf("made %v", s)
		}
		deployed, err := c.deployments.CreateDeployment(ctx, &fifev1.CreateDeploymentRequest{
			Parent: demo, StageId: "prod", Stage: &fifev1.Stage{SecretVariables: secret}, StageMask: mask("secret_variables"),
		})
		stage(deployed.GetStage(), err)
		started, err := c.stages.StartCanary(ctx, &fifev1.StartCanaryRequest{Name: prod, Canary: &fifev1.Canary{SecretOverrides: secret}})
		stage(started.GetStage(), err)
		changed, err := c.stages.UpdateCanary(ctx, &fifev1.UpdateCanaryRequest{Name: prod, Canary: &fifev1.Canary{Percent: 5, Deployment: first}})
		if s := stage(changed.GetStage(), err); len(s.GetCanary().GetSecretOverrides()) != 1 {
			t.Errorf("a change that names no fields and no secrets has lost them: %v", s)
		}

		// Whoever writes back what was read, or knows nothing of secrets, leaves them.
		for _, req := range []*fifev1.UpdateStageRequest{
			{Stage: must(c.stages.GetStage(ctx, &fifev1.GetStageRequest{Name: prod}))(t).GetStage()},
			{Stage: &fifev1.Stage{Name: prod, Deployment: first}},
			{Stage: &fifev1.Stage{Name: prod, Variables: map[string]string{"p": "2"}}, UpdateMask: mask("variables")},
		} {
			resp, err := c.stages.UpdateStage(ctx, req)
			if s := stage(resp.GetStage(), err); len(s.GetSecretVariables()) != 1 {
				t.Errorf("%v has lost the secret", req)
			}
		}
		dry, err := c.stages.PromoteCanary(ctx, &fifev1.PromoteCanaryRequest{Name: prod, ValidateOnly: true})
		stage(dry.GetStage(), err)
		fmt.Fprintln(&seen, dry)
		audit := must(fifev1.NewAuditServiceClient(c).ListAuditEntries(ctx, &fifev1.ListAuditEntriesRequest{PageSize: 100}))(t)
		if !strings.Contains(fmt.Sprint(audit), "(secret ") {
			t.Errorf("the audit does not tell of secrets: %v", audit)
		}
		for place, text := range map[string]string{
			"the answers": seen.String(), "what is held": b.holdings(), "the audit": fmt.Sprint(audit), "the state": string(b.backup()),
		} {
			if strings.Contains(text, secretText) || strings.Contains(text, "\x00") && place != "the state" {
				t.Errorf("%s holds the secret, or what stands for it: %q", place, text)
			}
		}
	})
}

// TestSecretsRefused: bad secrets are refused, and the refusal does not tell them.
func TestSecretsRefused(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, b *bench) {
		b.stock()
		c, ctx := b.nodes["n1"], t.Context()
		must(c.stages.UpdateStage(ctx, &fifev1.UpdateStageRequest{
			Stage: &fifev1.Stage{Name: prod, SecretVariables: map[string]string{"s": secretText}}, UpdateMask: mask("secret_variables"),
		}))(t)
		before := b.holdings()
		for field, s := range map[string]*fifev1.Stage{
			"stage.secret_variables":               {SecretVariables: map[string]string{"s": secretText + " "}},
			"stage.secret_variables and variables": {SecretVariables: map[string]string{"s": secretText}, Variables: map[string]string{"s": "1"}},
			"stage.secret_variables unknown":       {SecretVariables: map[string]string{"t": ""}},
			"stage.variables":                      {Variables: map[string]string{"s": "1"}},
			"stage.canary.variable_overrides":      {Canary: &fifev1.Canary{VariableOverrides: map[string]string{"s": secretText}}},
		} {
			s.Name = prod
			req := &fifev1.UpdateStageRequest{Stage: s, UpdateMask: mask("variables")}
			if s.GetSecretVariables() != nil {
				req.UpdateMask = mask("secret_variables")
			}
			if s.GetCanary() != nil {
				req.UpdateMask = mask("canary")
			}
			_, err := c.stages.UpdateStage(ctx, req)
			badFields(t, field, err)
			if strings.Contains(fmt.Sprint(err), secretText) {
				t.Errorf("%s: the error shows the secret: %v", field, err)
			}
		}
		_, err := c.stages.CreateStage(ctx, &fifev1.CreateStageRequest{Parent: demo, StageId: "new", Stage: &fifev1.Stage{
			Deployment: first, SecretVariables: map[string]string{"s": ""},
		}})
		badFields(t, "a new stage with a secret that stays", err)
		_, err = c.stages.CreateStage(ctx, &fifev1.CreateStageRequest{Parent: demo, StageId: "new", Stage: &fifev1.Stage{
			Deployment: first, SecretVariables: map[string]string{"s": "x"}, Canary: &fifev1.Canary{VariableOverrides: map[string]string{"s": "y"}},
		}})
		badFields(t, "a new stage whose canary lays a secret open", err)
		if after := b.holdings(); after != before {
			t.Errorf("something was done:\n%s\nbefore\n%s", after, before)
		}
	})
}

// TestRestoreWithAnotherKey: a backup whose secrets the cluster cannot open is refused
// before anything is done; with the old key it is taken.
func TestRestoreWithAnotherKey(t *testing.T) {
	key := identity.NewSealKey()
	var backup []byte
	inBubble(t, 1, func(t *testing.T, b *bench) {
		b.restartWith(key)
		b.stock()
		must(b.nodes["n1"].stages.UpdateStage(t.Context(), &fifev1.UpdateStageRequest{
			Stage: &fifev1.Stage{Name: prod, SecretVariables: map[string]string{"s": secretText}}, UpdateMask: mask("secret_variables"),
		}))(t)
		backup = b.backup()
	})
	inBubble(t, 1, func(t *testing.T, b *bench) {
		before := b.holdings()
		for _, other := range [][]byte{identity.NewSealKey(), nil} {
			b.restartWith(other)
			err := b.restore("n1", backup)
			wantRefusal(t, "with another key", err, refusal{codes.FailedPrecondition, "OTHER_KEY", nil})
			if after := b.holdings(); after != before {
				t.Errorf("something was done:\n%s", after)
			}
		}
		b.restartWith(key)
		if err := b.restore("n1", backup); err != nil {
			t.Errorf("with the same key: %v", err)
		}
	})
}

// restartWith starts the node of a cluster of one again with a key that seals; nil
// for none.
func (b *bench) restartWith(key []byte) {
	b.t.Helper()
	b.StopNode("n1")
	b.Sealer = nil
	if key != nil {
		sealer, err := identity.NewSealer(key)
		if err != nil {
			b.t.Fatal(err)
		}
		b.Sealer = sealer
	}
	b.StartNode("n1")
	b.until("it leads again", func() bool {
		resp, err := b.nodes["n1"].cluster.GetCluster(b.t.Context(), &fifev1.GetClusterRequest{})
		return err == nil && resp.GetCluster().GetLeader() != ""
	})
}

// TestSecretsWithoutKey: without a key, secrets are refused and override keys, which
// have always been taken, are taken.
func TestSecretsWithoutKey(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, b *bench) {
		b.restartWith(nil)
		b.stock()
		c, ctx := b.nodes["n1"], t.Context()
		_, err := c.stages.UpdateStage(ctx, &fifev1.UpdateStageRequest{
			Stage: &fifev1.Stage{Name: prod, SecretVariables: map[string]string{"s": secretText}}, UpdateMask: mask("secret_variables"),
		})
		if fields := badFields(t, "a secret", err); len(fields) != 1 || strings.Contains(err.Error(), secretText) {
			t.Errorf("got %v", err)
		}
		b.takes(&fifev1.UpdateStageRequest{
			Stage:      &fifev1.Stage{Name: prod, Split: &fifev1.SplitPolicy{AllowOverride: true, OverrideKey: secretText}},
			UpdateMask: mask("split"),
		})
	})
}

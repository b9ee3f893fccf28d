package proxy

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/config"
)

// awsSigner signs requests with the credentials of the ordinary chain
// (environment, shared files, roles). The chain is looked at with the first
// request that needs it, so an agent without Lambda needs no AWS; a failure is
// tried again. The zero value is ready for use, by many goroutines.
type awsSigner struct {
	mu     sync.Mutex
	config *aws.Config // nil until it could be loaded
	signer *v4.Signer
}

func (s *awsSigner) load(ctx context.Context) (*aws.Config, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.config != nil {
		return s.config, nil
	}
	c, err := config.LoadDefaultConfig(ctx)
	if err != nil {
		return nil, fmt.Errorf("load the AWS configuration: %w", err)
	}
	s.config, s.signer = &c, v4.NewSigner()
	return s.config, nil
}

// region returns where a function lives: its ARN says so, or the configuration.
func (s *awsSigner) region(ctx context.Context, f function) (string, error) {
	if f.region != "" {
		return f.region, nil
	}
	c, err := s.load(ctx)
	if err != nil {
		return "", err
	}
	if c.Region == "" {
		return "", errors.New("no AWS region: use the function's ARN, or set AWS_REGION")
	}
	return c.Region, nil
}

// sign adds a Signature Version 4 for Lambda in region.
func (s *awsSigner) sign(ctx context.Context, req *http.Request, body []byte, region string) error {
	c, err := s.load(ctx)
	if err != nil {
		return err
	}
	if c.Credentials == nil {
		return errors.New("no AWS credentials are configured")
	}
	credentials, err := c.Credentials.Retrieve(ctx)
	if err != nil {
		return fmt.Errorf("get AWS credentials: %w", err)
	}
	hash := sha256.Sum256(body)
	if err := s.signer.SignHTTP(ctx, credentials, req, hex.EncodeToString(hash[:]), "lambda", region, time.Now()); err != nil {
		return fmt.Errorf("sign for AWS: %w", err)
	}
	return nil
}

// awsEndpoint returns the URL of Lambda in a region. The partition may be empty.
func awsEndpoint(partition, region string) string {
	domain := "amazonaws.com"
	if partition == "aws-cn" || partition == "" && strings.HasPrefix(region, "cn-") {
		domain = "amazonaws.com.cn"
	}
	return "https://lambda." + region + "." + domain
}

// isAWS reports whether requests to an endpoint must be signed.
func isAWS(endpoint string) bool {
	if endpoint == "" {
		return true
	}
	u, err := url.Parse(endpoint)
	if err != nil {
		return false
	}
	host := u.Hostname()
	return strings.HasSuffix(host, ".amazonaws.com") || strings.HasSuffix(host, ".amazonaws.com.cn")
}

//! What is said to a server, and what is shown of it.

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;

use super::*;

#[test]
fn a_password_is_never_shown() {
    for (url, shown) in [
        ("nats://127.0.0.1:4222", "nats://127.0.0.1:4222"),
        (
            "nats://user:secret@nats.example.com",
            "nats://***@nats.example.com",
        ),
        ("nats://user:se@cret@host", "nats://***@host"),
        ("secret@a, nats://u:p@b", "***@a,nats://***@b"),
    ] {
        assert_eq!(masked(url), shown);
    }
    let config = NatsConfig {
        url: "nats://u:secret@host".to_owned(),
        ..NatsConfig::default()
    };
    assert!(!format!("{config:?}").contains("secret"));
}

/// What is said to a server whose address begins with `proof`.
async fn said(proof: &str, login: Option<Login>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let config = NatsConfig {
        url: format!("nats://{proof}@{address}"),
        login,
        ..NatsConfig::default()
    };
    let connecting = tokio::spawn(async move { connect(&config, "test").await });
    let (mut server, _) = listener.accept().await.unwrap();
    let info = b"INFO {\"server_id\":\"x\",\"max_payload\":1048576,\"nonce\":\"n\"}\r\n";
    server.write_all(info).await.unwrap();
    let mut said = String::new();
    BufReader::new(server).read_line(&mut said).await.unwrap();
    connecting.abort();
    said
}

#[tokio::test]
async fn what_the_address_holds_is_said_to_the_server() {
    let user = said("acme:secret", None).await;
    assert!(user.contains(r#""user":"acme","pass":"secret""#), "{user}");
    let token = said("secret", None).await;
    assert!(token.contains(r#""auth_token":"secret""#), "{token}");
    assert!(!token.contains(r#""user":"secret""#), "{token}");
}

#[tokio::test]
async fn a_login_stands_above_what_the_address_holds() {
    let seed = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&seed, nkeys::KeyPair::new_user().seed().unwrap()).unwrap();
    let login = Login::NkeyFile(seed.path().to_owned());
    let said = said("acme:secret", Some(login)).await;
    assert!(said.contains(r#""nkey":"U"#), "{said}");
    assert!(!said.contains("secret"), "{said}");
}

#[test]
fn a_configuration_is_read_from_toml() {
    let config: NatsConfig =
        toml::from_str("url = 'nats://nats.example.com'\nlogin.nkey_file = '/run/seed'").unwrap();
    assert_eq!(config.login, Some(Login::NkeyFile("/run/seed".into())));
    assert!(toml::from_str::<NatsConfig>("urll = 'x'").is_err());
}

#[tokio::test]
async fn a_server_that_stays_away_is_an_error_that_names_it() {
    let config = NatsConfig {
        url: "nats://127.0.0.1:1".to_owned(),
        ..NatsConfig::default()
    };
    let policy = Policy {
        first_wait: Duration::from_millis(1),
        ..Policy::up_to(Duration::from_millis(20))
    };
    let error = connect_within(&config, "test", policy).await.unwrap_err();
    assert_eq!(error.to_string(), "connect to NATS at nats://127.0.0.1:1");
}

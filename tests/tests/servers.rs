//! The servers of a stack, for real: two of each side by side, what they keep, and that nothing of them is left.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use async_nats::jetstream;
use aws_sdk_s3::primitives::ByteStream;
use e2e::launch::{Lifetime, OnDisk, ServerOptions};
use e2e::nats::NatsServer;
use e2e::python::Python;
use e2e::s3::S3Server;
use e2e::state::State;
use e2e::tools::Tools;
use nix::sys::signal::kill;
use nix::unistd::Pid;

const DEFAULT: ServerOptions = ServerOptions {
    port: None,
    lifetime: Lifetime::Owner,
    on_disk: OnDisk::AtOnce,
};

fn tools() -> Result<Tools> {
    Tools::install(&State::from_environment()?)
}

fn is_running(pid: Pid) -> bool {
    kill(pid, None).is_ok()
}

#[test]
fn tools_run_in_their_pinned_versions() -> Result<()> {
    let tools = tools()?;
    for (program, argument, expected) in [
        (tools.nats_server, "--version", "v2.15.1"),
        (tools.weed, "version", " 4.48 "),
    ] {
        let output = Command::new(&program).arg(argument).output()?;
        let text = String::from_utf8(output.stdout)?;
        ensure!(text.contains(expected), "{}: {text}", program.display());
    }
    Ok(())
}

#[tokio::test]
async fn two_nats_servers_run_side_by_side_and_nothing_of_them_is_left() -> Result<()> {
    let (tools, directory) = (tools()?, tempfile::tempdir()?);
    let first = NatsServer::start(&tools, &directory.path().join("first"), DEFAULT).await?;
    let second = NatsServer::start(&tools, &directory.path().join("second"), DEFAULT).await?;
    ensure!(first.url() != second.url());
    for server in [&first, &second] {
        let stream = stream(server).await?;
        ensure!(
            stream.cached_info().state.messages == 0,
            "each has streams of its own"
        );
        publish(server, "stream.a").await?;
    }
    let ids = [first.id(), second.id()];
    first.stop().await?;
    drop(second);
    ensure!(!ids.into_iter().any(is_running));
    Ok(())
}

#[tokio::test]
async fn a_nats_server_that_starts_again_has_its_messages_at_its_address() -> Result<()> {
    let (tools, directory) = (tools()?, tempfile::tempdir()?);
    let server = NatsServer::start(&tools, directory.path(), DEFAULT).await?;
    stream(&server).await?;
    publish(&server, "stream.a").await?;
    let (url, port) = (server.url().to_owned(), server.port()?);
    drop(server);
    let options = ServerOptions {
        port: Some(port),
        ..DEFAULT
    };
    let server = NatsServer::start(&tools, directory.path(), options).await?;
    ensure!(server.url() == url);
    ensure!(stream(&server).await?.cached_info().state.messages == 1);
    Ok(())
}

#[tokio::test]
async fn a_detached_nats_server_is_stopped_by_its_record() -> Result<()> {
    let (tools, directory) = (tools()?, tempfile::tempdir()?);
    let options = ServerOptions {
        lifetime: Lifetime::Detached,
        ..DEFAULT
    };
    let server = NatsServer::start(&tools, directory.path(), options).await?;
    let url = server.url().to_owned();
    let running = server.detach()?;
    async_nats::connect(&url).await?;
    running.stop(Duration::from_secs(10)).await?;
    ensure!(!running.is_running());
    Ok(())
}

#[tokio::test]
async fn a_client_in_python_publishes_a_message() -> Result<()> {
    let (tools, directory) = (tools()?, tempfile::tempdir()?);
    let python = Python::install(&State::from_environment()?)?;
    let server = NatsServer::start(&tools, directory.path(), DEFAULT).await?;
    let mut stream = stream(&server).await?;
    let script = "
import asyncio, sys, nats
async def main():
    connection = await nats.connect(sys.argv[1])
    await connection.jetstream().publish('stream.python', b'hello')
    await connection.close()
asyncio.run(main())
";
    let output = python
        .command()
        .args(["-c", script, server.url()])
        .output()?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    ensure!(stream.info().await?.state.messages == 1);
    Ok(())
}

#[tokio::test]
async fn two_s3_servers_run_side_by_side_and_nothing_of_them_is_left() -> Result<()> {
    let (tools, directory) = (tools()?, tempfile::tempdir()?);
    let (one, two) = (directory.path().join("one"), directory.path().join("two"));
    let (first, second) = tokio::try_join!(
        S3Server::start(&tools, &one, DEFAULT),
        S3Server::start(&tools, &two, DEFAULT),
    )?;
    for (server, text) in [(&first, "first"), (&second, "second")] {
        put(server, text).await?;
    }
    ensure!(get(&first).await? == "first" && get(&second).await? == "second");
    let ids = [first.id(), second.id()];
    let ports = [first.port(), second.port()];
    first.kill()?;
    drop(second);
    ensure!(!ids.into_iter().any(is_running));
    for port in ports {
        let socket = format!("/tmp/seaweedfs-s3-{port}.sock");
        ensure!(!Path::new(&socket).exists(), "{socket} is left");
    }
    Ok(())
}

#[tokio::test]
async fn an_s3_server_that_was_killed_has_its_objects_when_it_starts_again() -> Result<()> {
    let (tools, directory) = (tools()?, tempfile::tempdir()?);
    let server = S3Server::start(&tools, directory.path(), DEFAULT).await?;
    put(&server, "kept").await?;
    let (endpoint, port) = (server.endpoint().to_owned(), server.port());
    drop(server);
    let options = ServerOptions {
        port: Some(port),
        ..DEFAULT
    };
    let server = S3Server::start(&tools, directory.path(), options).await?;
    ensure!(server.endpoint() == endpoint);
    ensure!(get(&server).await? == "kept");
    Ok(())
}

#[tokio::test]
async fn an_s3_server_refuses_other_credentials() -> Result<()> {
    let (tools, directory) = (tools()?, tempfile::tempdir()?);
    let server = S3Server::start(&tools, directory.path(), DEFAULT).await?;
    let client = server.client();
    let mut config = client.config().to_builder();
    config.set_credentials_provider(Some(aws_sdk_s3::config::SharedCredentialsProvider::new(
        aws_sdk_s3::config::Credentials::new("other", "other", None, None, "test"),
    )));
    let refused = aws_sdk_s3::Client::from_conf(config.build())
        .list_buckets()
        .send()
        .await;
    let response = refused.err().context("it was not refused")?;
    let status = response
        .raw_response()
        .map(|response| response.status().as_u16());
    ensure!(status == Some(403), "{response:?}");
    Ok(())
}

async fn stream(server: &NatsServer) -> Result<jetstream::stream::Stream> {
    let context = jetstream::new(async_nats::connect(server.url()).await?);
    let config = jetstream::stream::Config {
        name: "STREAM".to_owned(),
        subjects: vec!["stream.>".to_owned()],
        ..Default::default()
    };
    Ok(context.get_or_create_stream(config).await?)
}

async fn publish(server: &NatsServer, subject: &'static str) -> Result<()> {
    let context = jetstream::new(async_nats::connect(server.url()).await?);
    context.publish(subject, "hello".into()).await?.await?;
    Ok(())
}

async fn put(server: &S3Server, text: &'static str) -> Result<()> {
    let client = server.client();
    client.create_bucket().bucket("objects").send().await?;
    let body = ByteStream::from_static(text.as_bytes());
    client
        .put_object()
        .bucket("objects")
        .key("key")
        .body(body)
        .send()
        .await?;
    Ok(())
}

async fn get(server: &S3Server) -> Result<String> {
    let object = server
        .client()
        .get_object()
        .bucket("objects")
        .key("key")
        .send()
        .await?;
    Ok(String::from_utf8(object.body.collect().await?.to_vec())?)
}

//! Echo over TCP and UDP. With `--say-host`, each answer starts with the host's name, so that a caller sees who answered.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
};

use crate::{serve::host_name, stop};

#[derive(clap::Args)]
pub struct Options {
    #[arg(long, default_value_t = 7)]
    port: u16,
    #[arg(long, default_value = "::")]
    address: std::net::IpAddr,
    /// Put the host's name and a blank before what is returned
    #[arg(long)]
    say_host: bool,
}

pub async fn run(options: Options) -> anyhow::Result<i32> {
    let prefix = if options.say_host { format!("{} ", host_name()) } else { String::new() };
    let listener = TcpListener::bind((options.address, options.port)).await?;
    let socket = UdpSocket::bind((options.address, options.port)).await?;
    println!("echo on {}", listener.local_addr()?);
    tokio::select! {
        failed = tcp(listener, prefix.clone()) => failed?,
        failed = udp(socket, prefix) => failed?,
        stopped = stop::requested() => stopped?,
    }
    Ok(0)
}

pub async fn tcp(listener: TcpListener, prefix: String) -> std::io::Result<()> {
    loop {
        let (stream, peer) = listener.accept().await?;
        let prefix = prefix.clone();
        tokio::spawn(async move {
            if let Err(error) = echo_stream(stream, &prefix).await {
                eprintln!("{peer}: {error}");
            }
        });
    }
}

async fn echo_stream(mut stream: TcpStream, prefix: &str) -> std::io::Result<()> {
    stream.write_all(prefix.as_bytes()).await?;
    let mut buffer = vec![0; 16 << 10];
    loop {
        let length = stream.read(&mut buffer).await?;
        if length == 0 {
            return Ok(());
        }
        stream.write_all(&buffer[..length]).await?;
    }
}

pub async fn udp(socket: UdpSocket, prefix: String) -> std::io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let (length, peer) = socket.recv_from(&mut buffer).await?;
        let mut answer = prefix.clone().into_bytes();
        answer.extend_from_slice(&buffer[..length]);
        if let Err(error) = socket.send_to(&answer, peer).await {
            eprintln!("{peer}: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn udp_answers_with_the_prefix_and_what_was_sent() {
        let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = server.local_addr().unwrap();
        let task = tokio::spawn(udp(server, "me ".into()));
        let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        client.send_to(b"hello", address).await.unwrap();
        let mut buffer = [0; 32];
        let (length, _) = client.recv_from(&mut buffer).await.unwrap();
        assert_eq!(&buffer[..length], b"me hello");
        task.abort();
    }

    #[tokio::test]
    async fn tcp_returns_what_was_sent() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(tcp(listener, String::new()));
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(b"hello").await.unwrap();
        client.shutdown().await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "hello");
        task.abort();
    }
}

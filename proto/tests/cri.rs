//! Wire facts of CRI that a wrong field number would break in silence.

use prost::Message;
use proto::cri;

fn encoded(message: &impl Message) -> Vec<u8> {
    message.encode_to_vec()
}

#[test]
fn field_numbers_that_are_out_of_order_are_the_published_ones() {
    let context = cri::LinuxSandboxSecurityContext {
        run_as_group: Some(cri::Int64Value { value: 5 }),
        seccomp: Some(cri::SecurityProfile::default()),
        ..Default::default()
    };
    // Field 8 (a message holding value 1 = 5), then field 9 (an empty message).
    assert_eq!(encoded(&context), [0x42, 2, 0x08, 5, 0x4a, 0]);
    let request = cri::RunPodSandboxRequest { config: None, runtime_handler: "r".into() };
    assert_eq!(encoded(&request), [0x12, 1, b'r']);
}

#[test]
fn enumerations_have_the_published_values() {
    assert_eq!(cri::PodSandboxState::SandboxNotready as i32, 1);
    assert_eq!(cri::ContainerState::ContainerExited as i32, 2);
    assert_eq!(cri::NamespaceMode::Node as i32, 2);
    assert_eq!(cri::MountPropagation::PropagationBidirectional as i32, 2);
    assert_eq!(cri::security_profile::ProfileType::Localhost as i32, 2);
    assert_eq!(cri::ContainerEventType::ContainerStoppedEvent as i32, 2);
}

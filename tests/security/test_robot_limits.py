"""The limits of robot files know every attribute that MuJoCo knows: none costs memory or time unseen."""

from __future__ import annotations

import re

import mujoco

from factory.envs.robots import robot_limits

PHYSICS = """
accel act actearly active activelayers actlimited actrange actuation actuator
actuatorfrclimited actuatorfrcrange actuatorgravcomp actuatorgroupdisable actuatorlength actuatornegative
actuatorpositive actuatortendon actuatorwidth adhesion align alignfree alpha ambient anchor angle area
armature assetdir attenuation autolimits autoreset axis axisangle azimuth balanceinertia bias biasprm
biastype bindpos bindquat body body1 body2 boundinertia boundmass builtin bulbradius bv bvactive camera
cameraid castshadow ccd_tolerance cell center childclass clampctrl class coef cogging colorspace com
conaffinity condim cone conflict connect constraint contact contactforce contactfriction contactgap
contactheight contactpoint contacttorque contactwidth content_type controller contype coordinate
crankbroken cranklength cranksite ctrl ctrllimited ctrlrange curve cutoff damper damping dampratio data
datatype delay density diagexact diaginertia diameter diffuse dir directional discardvisual divisor dof
dynprm dyntype elastic2d element elemtexcoord elevation ellipsoidinertia emission energy equality euler
eulerdamp eulerseq exponent extent face ffrange file fileback filedown filefront fileleft fileright fileup
filterparent fitaabb fitscale flatskin flex fluidcoef fluidshape focal focalpixel fog fogend fogstart
force forcelimited forcerange forcewidth fovy fpmax frame framelength framewidth friction frictionloss
fromto frustum fullinertia fusestatic fvmax fwdinv gain gainprm gaintype gap gear geom geom1 geom2 glow
gravcomp gravity grid gridlayout gridrange gridsize group haze hfield hflip id imax impratio inductance
inertia inertiabox inertiafromgeom inertiagrouprange inflate inheritrange initial input instance
integrator intensity internal interp invdiscrete ipc ipd island jacobian joint joint1 joint2 jointinparent
jointlength jointwidth key ki kind kp kv lengthrange light limit limited linewidth lmax lmin ls_tolerance
lugre magnetic margin mark markrgb mass material maxforce maxhullvert meaninertia meanmass meansize mesh
meshdir metallic midphase mocap mode model motorconst mpos mquat multiccd name nativeccd needstage node
nodecoord noise nominal normal noslip_tolerance o_friction o_margin o_solimp o_solref objname objtype
offset origin orthographic output override passive plugin point poisson polycoef pos posrange prefix
principal principalpixel priority prm projection qpos quat qvel radius random range rangefinder realtime
reduce ref reflectance refname refpos refquat refsafe refsite reftype relpose resistance rgb1 rgb2 rgba
rigid role roughness saturation saveinertial scale selectpoint selfcollide sensor sensorsize settotalmass
shadowclip shadowscale shellinertia shininess sidesite simple site site1 site2 sleep sleep_tolerance
slewmax slidercrank slidersite smoothnormal softness solimp solimpfix solimpfriction solimplimit solmix
solref solreffix solreffriction solreflimit solver spacing specular spring springdamper springlength
springref stiffness stiffnessrot strippath subtree1 subtree2 surfacevel target tausmooth tendon tendon1
tendon2 texcoord texrepeat texture texturedir texuniform thermal thickness time timeconst tolerance
tolrange torque torquescale type useexisting uselimit user usethread value velrange vertex vertid
vertweight vflip viscosity vmax warmstart wind xyaxes young zaxis zfar znear
"""
"""Attributes that were looked at: physics, names, flags and choices, whose values cost nothing."""
_ELEMENT = re.compile(r"^\s*[\w()]+ \(.\)")


def attributes() -> set[str]:
    """Return the names of all attributes in MuJoCo's own schema of its files."""
    found: set[str] = set()
    for line in mujoco.mj_printSchema(False, False).splitlines():
        # An element's name and number come first; its attributes go on in the lines below.
        found.update(_ELEMENT.sub("", line).split())
    return found


def test_every_attribute_of_mujoco_was_looked_at() -> None:
    """A newer MuJoCo with further attributes fails here: give each a limit, or add it to the list above."""
    limited = {key.rpartition(".")[2] for key in robot_limits._LIMITS}
    user_sizes = {name for name in attributes() if robot_limits._USER_SIZES.fullmatch(name)}
    assert sorted(attributes() - limited - user_sizes - set(PHYSICS.split())) == []

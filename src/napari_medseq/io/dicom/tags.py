"""The DICOM attributes that this package reads: keyword → (tag, value representation), from DICOM PS3.6.

Private ones are from the scanners' conformance statements and pydicom's private dictionary.

The list is kept here so that a header is read without importing pydicom, which takes longer than most series.
"""

from __future__ import annotations

# fmt: off
TAGS: dict[str, tuple[int, str]] = {
    "AccessionNumber": (0x00080050, "SH"), "AcquisitionDate": (0x00080022, "DA"),
    "AcquisitionDateTime": (0x0008002A, "DT"), "AcquisitionMatrix": (0x00181310, "US"),
    "AcquisitionNumber": (0x00200012, "IS"), "AcquisitionTime": (0x00080032, "TM"),
    "ActualCardiacTriggerDelayTime": (0x00209252, "FD"), "ActualFrameDuration": (0x00181242, "IS"),
    "AngularViewVector": (0x00540090, "US"), "BitsAllocated": (0x00280100, "US"), "BitsStored": (0x00280101, "US"),
    "BodyPartExamined": (0x00180015, "CS"), "CTImageFrameTypeSequence": (0x00189329, "SQ"),
    "CardiacSynchronizationSequence": (0x00189118, "SQ"), "CineRate": (0x00180040, "IS"),
    "Columns": (0x00280011, "US"), "ComplexImageComponent": (0x00089208, "CS"), "ContentDate": (0x00080023, "DA"),
    "ContentLabel": (0x00700080, "CS"), "ContentTime": (0x00080033, "TM"), "ContourData": (0x30060050, "DS"),
    "ContourGeometricType": (0x30060042, "CS"), "ContourSequence": (0x30060040, "SQ"),
    "ContourImageSequence": (0x30060016, "SQ"), "ContrastBolusAgent": (0x00180010, "LO"), "ConvolutionKernel": (0x00181210, "SH"),
    "CorrectedImage": (0x00280051, "CS"), "DataInformationSequence": (0x00540063, "SQ"),
    "DecayCorrection": (0x00541102, "CS"), "DetectorInformationSequence": (0x00540022, "SQ"),
    "DetectorVector": (0x00540020, "US"), "DiffusionBValue": (0x00189087, "FD"),
    "DiffusionGradientDirectionSequence": (0x00189076, "SQ"), "DiffusionGradientOrientation": (0x00189089, "FD"),
    "DirectoryRecordSequence": (0x00041220, "SQ"), "DirectoryRecordType": (0x00041430, "CS"),
    "DoseGridScaling": (0x3004000E, "DS"), "DoubleFloatPixelData": (0x7FE00009, "OD"),
    "EchoNumbers": (0x00180086, "IS"), "EchoTime": (0x00180081, "DS"), "EffectiveEchoTime": (0x00189082, "FD"),
    "EnergyWindowVector": (0x00540010, "US"), "FloatPixelData": (0x7FE00008, "OF"),
    "FrameAcquisitionDateTime": (0x00189074, "DT"), "FrameAcquisitionNumber": (0x00209156, "US"),
    "FrameContentSequence": (0x00209111, "SQ"), "FrameOfReferenceUID": (0x00200052, "UI"),
    "FrameReferenceDateTime": (0x00189151, "DT"), "FrameReferenceTime": (0x00541300, "DS"),
    "FrameTime": (0x00181063, "DS"), "FrameTimeVector": (0x00181065, "DS"), "FrameType": (0x00089007, "CS"),
    "FrameVOILUTSequence": (0x00289132, "SQ"), "GatedInformationSequence": (0x00540062, "SQ"),
    "GridFrameOffsetVector": (0x3004000C, "DS"), "HighBit": (0x00280102, "US"),
    "ImageOrientationPatient": (0x00200037, "DS"), "ImageOrientationVolume": (0x00209302, "FD"),
    "ImagePositionPatient": (0x00200032, "DS"), "ImagePositionVolume": (0x00209301, "FD"),
    "ImageType": (0x00080008, "CS"), "ImagerPixelSpacing": (0x00181164, "DS"),
    "InStackPositionNumber": (0x00209057, "UL"), "InstanceNumber": (0x00200013, "IS"), "KVP": (0x00180060, "DS"),
    "LUTData": (0x00283006, "US or OW"), "LUTDescriptor": (0x00283002, "US or SS"),
    "MRDiffusionSequence": (0x00189117, "SQ"), "MREchoSequence": (0x00189114, "SQ"),
    "MRImageFrameTypeSequence": (0x00189226, "SQ"), "MRTimingAndRelatedParametersSequence": (0x00189112, "SQ"),
    "Manufacturer": (0x00080070, "LO"), "ManufacturerModelName": (0x00081090, "LO"),
    "MaximumFractionalValue": (0x0062000E, "US"), "Modality": (0x00080060, "CS"),
    "ModalityLUTSequence": (0x00283000, "SQ"), "NominalCardiacTriggerDelayTime": (0x00209153, "FD"),
    "NominalPercentageOfCardiacPhase": (0x00209241, "FL"), "NominalScannedPixelSpacing": (0x00182010, "DS"),
    "NumberOfFrames": (0x00280008, "IS"), "NumberOfFramesInPhase": (0x00540033, "US"),
    "OtherPatientIDs": (0x00101000, "LO"), "PETFrameTypeSequence": (0x00189751, "SQ"),
    "PatientBirthDate": (0x00100030, "DA"), "PatientID": (0x00100020, "LO"), "PatientName": (0x00100010, "PN"),
    "PatientSex": (0x00100040, "CS"), "PatientWeight": (0x00101030, "DS"),
    "PerFrameFunctionalGroupsSequence": (0x52009230, "SQ"), "PhaseDelay": (0x00540036, "IS"),
    "PhaseInformationSequence": (0x00540032, "SQ"), "PhaseVector": (0x00540030, "US"),
    "PhotometricInterpretation": (0x00280004, "CS"), "PhysicalDeltaX": (0x0018602C, "FD"),
    "PhysicalDeltaY": (0x0018602E, "FD"), "PhysicalUnitsXDirection": (0x00186024, "US"),
    "PhysicalUnitsYDirection": (0x00186026, "US"), "PixelData": (0x7FE00010, "OB or OW"),
    "PixelMeasuresSequence": (0x00289110, "SQ"), "PixelPaddingRangeLimit": (0x00280121, "US or SS"),
    "PixelPaddingValue": (0x00280120, "US or SS"),
    "PixelRepresentation": (0x00280103, "US"), "PixelSpacing": (0x00280030, "DS"),
    "PixelValueTransformationSequence": (0x00289145, "SQ"), "PlanarConfiguration": (0x00280006, "US"),
    "PlaneOrientationSequence": (0x00209116, "SQ"), "PlaneOrientationVolumeSequence": (0x0020930F, "SQ"),
    "PlanePositionSequence": (0x00209113, "SQ"), "PlanePositionVolumeSequence": (0x0020930E, "SQ"),
    "ProtocolName": (0x00181030, "LO"), "ROIContourSequence": (0x30060039, "SQ"),
    "ROIDisplayColor": (0x3006002A, "IS"), "ROIName": (0x30060026, "LO"), "ROINumber": (0x30060022, "IS"),
    "RRIntervalVector": (0x00540060, "US"), "RTReferencedSeriesSequence": (0x30060014, "SQ"),
    "RTReferencedStudySequence": (0x30060012, "SQ"), "RadionuclideHalfLife": (0x00181075, "DS"),
    "RadionuclideTotalDose": (0x00181074, "DS"), "RadiopharmaceuticalInformationSequence": (0x00540016, "SQ"),
    "RadiopharmaceuticalStartDateTime": (0x00181078, "DT"), "RadiopharmaceuticalStartTime": (0x00181072, "TM"),
    "RecommendedDisplayCIELabValue": (0x0062000D, "US"), "RecommendedDisplayFrameRate": (0x00082144, "IS"),
    "ReferencedFileID": (0x00041500, "CS"), "ReferencedFrameOfReferenceSequence": (0x30060010, "SQ"),
    "ReferencedFrameOfReferenceUID": (0x30060024, "UI"), "ReferencedROINumber": (0x30060084, "IS"),
    "ReferencedSOPInstanceUID": (0x00081155, "UI"), "ReferencedSegmentNumber": (0x0062000B, "US"),
    "ReferencedSeriesSequence": (0x00081115, "SQ"), "ReferringPhysicianName": (0x00080090, "PN"),
    "RepetitionTime": (0x00180080, "DS"), "RescaleIntercept": (0x00281052, "DS"), "RescaleSlope": (0x00281053, "DS"),
    "RotationVector": (0x00540050, "US"), "Rows": (0x00280010, "US"), "SOPClassUID": (0x00080016, "UI"),
    "SOPInstanceUID": (0x00080018, "UI"), "SUVType": (0x00541006, "CS"), "SamplesPerPixel": (0x00280002, "US"),
    "SegmentIdentificationSequence": (0x0062000A, "SQ"), "SegmentLabel": (0x00620005, "LO"),
    "SegmentNumber": (0x00620004, "US"), "SegmentSequence": (0x00620002, "SQ"),
    "SegmentationType": (0x00620001, "CS"), "SequenceOfUltrasoundRegions": (0x00186011, "SQ"),
    "SeriesDate": (0x00080021, "DA"), "SeriesDescription": (0x0008103E, "LO"),
    "SeriesInstanceUID": (0x0020000E, "UI"), "SeriesNumber": (0x00200011, "IS"), "SeriesTime": (0x00080031, "TM"),
    "SharedFunctionalGroupsSequence": (0x52009229, "SQ"), "SliceLocation": (0x00201041, "DS"),
    "SliceThickness": (0x00180050, "DS"), "SliceVector": (0x00540080, "US"),
    "SpacingBetweenSlices": (0x00180088, "DS"), "StackID": (0x00209056, "SH"),
    "StructureSetLabel": (0x30060002, "SH"), "StructureSetROISequence": (0x30060020, "SQ"),
    "StudyDate": (0x00080020, "DA"), "StudyID": (0x00200010, "SH"), "StudyInstanceUID": (0x0020000D, "UI"),
    "StudyTime": (0x00080030, "TM"), "TemporalPositionIdentifier": (0x00200100, "IS"),
    "TemporalPositionIndex": (0x00209128, "UL"), "TemporalPositionSequence": (0x00209310, "SQ"),
    "TemporalPositionTimeOffset": (0x0020930D, "FD"), "TemporalResolution": (0x00200110, "DS"),
    "TimeSliceVector": (0x00540100, "US"), "TimeSlotVector": (0x00540070, "US"),
    "TimezoneOffsetFromUTC": (0x00080201, "SH"),
    "TotalPixelMatrixColumns": (0x00480006, "UL"), "TrackingID": (0x00620020, "UT"),
    "TrackingUID": (0x00620021, "UI"), "TransferSyntaxUID": (0x00020010, "UI"), "TriggerTime": (0x00181060, "DS"),
    "Units": (0x00541001, "CS"), "WindowCenter": (0x00281050, "DS"), "WindowWidth": (0x00281051, "DS"),
    "XAXRFFrameCharacteristicsSequence": (0x00189412, "SQ"), "XRay3DFrameTypeSequence": (0x00189504, "SQ"),
}
#: Names and identifiers that are read only to remove them from free text.
SECRETS: dict[str, tuple[int, str]] = {
    "PatientName": (0x00100010, "PN"), "PatientID": (0x00100020, "LO"), "PatientBirthDate": (0x00100030, "DA"),
    "OtherPatientIDs": (0x00101000, "LO"), "OtherPatientNames": (0x00101001, "PN"), "PatientBirthName": (0x00101005, "PN"),
    "PatientMotherBirthName": (0x00101060, "PN"), "PatientAddress": (0x00101040, "LO"),
    "AccessionNumber": (0x00080050, "SH"), "StudyID": (0x00200010, "SH"), "AdmissionID": (0x00380010, "LO"),
    "ReferringPhysicianName": (0x00080090, "PN"), "ConsultingPhysicianName": (0x0008009C, "PN"),
    "PhysiciansOfRecord": (0x00081048, "PN"), "PerformingPhysicianName": (0x00081050, "PN"),
    "NameOfPhysiciansReadingStudy": (0x00081060, "PN"), "OperatorsName": (0x00081070, "PN"),
    "RequestingPhysician": (0x00321032, "PN"), "InstitutionName": (0x00080080, "LO"), "StationName": (0x00081010, "SH"),
    "ReviewerName": (0x300E0008, "PN"), "ResponsiblePerson": (0x00102297, "PN"),
}
#: Private attributes: name → (tag in the block that its maker uses, value representation, beginning of the block's
#: creator, name of the manufacturer for files from which a de-identifier removed the creator).
PRIVATE: dict[str, tuple[int, str, str, str]] = {
    "Siemens b-value": (0x0019100C, "IS", "SIEMENS MR HEADER", "SIEMENS"),
    "Siemens direction": (0x0019100E, "FD", "SIEMENS MR HEADER", "SIEMENS"),
    "GE image type": (0x0043102F, "SS", "GEMS_PARM_01", "GE "),
    "GE b-value": (0x00431039, "IS", "GEMS_PARM_01", "GE "),
    "Philips b-value": (0x20011003, "FL", "Philips", "PHILIPS"), "Philips phase": (0x20011008, "IS", "Philips", "PHILIPS"),
    "Philips direction RL": (0x200510B0, "FL", "Philips", "PHILIPS"),
    "Philips direction AP": (0x200510B1, "FL", "Philips", "PHILIPS"),
    "Philips direction FH": (0x200510B2, "FL", "Philips", "PHILIPS"),
    "Philips b-value number": (0x20051412, "IS", "Philips", "PHILIPS"),
    "Philips gradient number": (0x20051413, "IS", "Philips", "PHILIPS"),
    "Philips label": (0x20051429, "CS", "Philips", "PHILIPS"),
    "Philips diffusion order": (0x20051596, "IS", "Philips", "PHILIPS"),
    "UIH b-value": (0x00651009, "FD", "Image Private Header", "UIH"),
    "UIH direction": (0x00651037, "FD", "Image Private Header", "UIH"),
}
# fmt: on


#: Blocks of a private group (PS3.5, section 7.8.1) that are searched for a maker's attributes; nearly all use the first one.
BLOCKS = range(0x10, 0x20)


def in_block(tag: int, block: int) -> int:
    """A private tag moved to another block of its group."""
    return tag & 0xFFFF00FF | block << 8


def creator_of(tag: int) -> int:
    """The tag of the element that names the creator of a private tag's block (PS3.5, section 7.8.1)."""
    return tag & 0xFFFF0000 | (tag >> 8 & 0xFF)
